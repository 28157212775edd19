"""From bytes on disk to samples in pool order, and the chosen records back out.

`pool` joins the rest: `json_records` finds the records of a file (with `json_scanner` where the fast reader refuses),
`record_fields` takes one apart, `formats` knows its keys, `conversations` its turns; `selected_writer` writes.
"""
