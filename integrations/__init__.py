"""The trainers themselves read what scalselect wrote: see `integrations/README.md`."""
