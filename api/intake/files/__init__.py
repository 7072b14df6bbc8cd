"""The files of a request: as a multipart form, or as the body itself."""
