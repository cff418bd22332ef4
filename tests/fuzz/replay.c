/*
 * The plain main of a fuzz driver outside the fuzz variant: runs it over each named file, and over each file
 * of each named folder. Input stands at the end of its own heap block, so that sanitizers see every byte read
 * beyond. One line at the end.
 */
#include <dirent.h>
#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* An input that takes longer than this is a finding, sanitizers and a loaded machine allowed for. */
#define SECONDS_MOST 10.0

static unsigned count;

static void fail(const char *path, const char *why)
{
	fprintf(stderr, "replay: %s: %s\n", path, why);
	exit(1);
}

static double seconds(void)
{
	struct timespec t;

	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
	return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static void run_file(const char *path, size_t size)
{
	FILE *f = fopen(path, "rb");
	uint8_t *data = malloc(size ? size : 1);
	double start;

	if (!f || !data)
		fail(path, strerror(errno));
	if (fread(data, 1, size, f) != size)
		fail(path, "cannot be read");
	fclose(f);
	start = seconds();
	LLVMFuzzerTestOneInput(data, size);
	if (seconds() - start > SECONDS_MOST)
		fail(path, "takes too long");
	free(data);
	count++;
}

static void run_path(const char *path, int depth)
{
	struct stat st;
	struct dirent *entry;
	DIR *folder;

	if (stat(path, &st))
		fail(path, strerror(errno));
	if (S_ISREG(st.st_mode)) {
		run_file(path, (size_t)st.st_size);
		return;
	}
	if (depth > 4 || !(folder = opendir(path)))
		fail(path, "is no folder of inputs");
	while ((entry = readdir(folder))) {
		char inner[4096];

		if (entry->d_name[0] == '.')
			continue;
		snprintf(inner, sizeof(inner), "%s/%s", path, entry->d_name);
		run_path(inner, depth + 1);
	}
	closedir(folder);
}

int main(int argc, char **argv)
{
	LLVMFuzzerTestOneInput((const uint8_t *)"", 0);
	for (int i = 1; i < argc; i++)
		run_path(argv[i], 0);
	printf("%u inputs\n", count);
	return 0;
}
