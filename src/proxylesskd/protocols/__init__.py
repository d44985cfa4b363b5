"""Room 8b: published protocols beyond pairs: templates, identification, groups; each one file, one outcome."""
