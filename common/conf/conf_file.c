#include "common/conf/conf_file.h"

#include <errno.h>
#include <stdio.h>

int conf_file_read(const char *path, size_t most, struct buf *out)
{
	FILE *file = fopen(path, "re");
	char *room;
	size_t n;
	int err = 0;

	if (!file)
		return errno;
	room = buf_reserve(out, most + 1);
	n = room ? fread(room, 1, most + 1, file) : 0;
	if (ferror(file))
		err = errno ? errno : EIO;
	else if (n > most)
		err = EFBIG;
	buf_added(out, n);
	fclose(file);
	return err;
}
