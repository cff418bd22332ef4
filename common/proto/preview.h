/*
 * The preview of a message (RFC 8970): the first words of its first readable text, as plain UTF-8 on one line.
 * Pure; any thread.
 */
#pragma once

#include "common/proto/mime.h"

/* Characters of a preview at most (RFC 8970 section 3.3). */
#define PREVIEW_CHARS 200
/* Octets of a part, still encoded, that are looked at. */
#define PREVIEW_RAW (16u * 1024)

/* The part whose text it is: the first text/plain that is no attachment, else the first text/html. NULL: none. */
const struct mime_part *preview_part(const struct mime_part *root);
/* Appends the preview; raw: the body of the part as it stands in the message, at most PREVIEW_RAW of it. */
void preview_write(const struct mime_part *part, struct slice raw, struct buf *out);
