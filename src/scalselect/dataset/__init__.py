"""From bytes on disk to samples in pool order, and the chosen records back out.

`opening` opens a data set as a `pool`: `containers` tells what its records are kept in, and each container is a
`record_source`; `record_fields` takes a record apart, `formats` knows its keys, `conversations` its turns;
`selected_writer` writes.
"""
