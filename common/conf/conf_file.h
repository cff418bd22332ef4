/* Files that a key names: templates, keys. */
#pragma once

#include "common/base/buf.h"

/* Appends the whole file to out. 0, or an errno (EFBIG: it is longer than most octets); out may hold a part then. Any thread; blocks. */
int conf_file_read(const char *path, size_t most, struct buf *out);
