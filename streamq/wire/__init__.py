"""What the service and its client say to each other, as plain functions and objects that wait for nothing.

- `arrow`: an Arrow IPC stream, with progress, errors and the end in its metadata, written and read piece by piece;
- `errors`: errors as JSON, and back as the class they were;
- `records`: statistics and other frozen data as JSON, and back;
- `parameters`: values of any type that Arrow knows in a JSON request;
- `plain_size`: what Arrow data comes to that was written in few bytes;
- `json_lines`: rows as JSON lines.

A result is a stream that any Arrow reader can read. Its schema's metadata says what is known at the start (`streamq.query`: id, kind,
changelog, key); a batch's says where it stands (`streamq.progress`). The last batch has no rows and `streamq.end`, behind which comes
Arrow's end-of-stream marker; or it has `streamq.error`, and no marker follows. A body without either was cut.
"""
