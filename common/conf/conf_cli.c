/*
 * The command line that both programs share.
 */
#include <stdlib.h>
#include <string.h>

#include "common/base/version.h"
#include "common/conf/conf.h"

enum {
	EXIT_GOOD = 0,
	EXIT_BAD = 1,
	EXIT_USAGE = 64
};

#define FILES_MOST 32

static NORETURN void usage(const struct conf_table *table, const char *more, FILE *out, int status)
{
	fprintf(out,
		"usage: %s [-c FILE] [--conf FILE]... [--check | --print-defaults | --print-docs | --version "
		"| --help]\n"
		"  -c FILE           the configuration; else %s\n"
		"  --conf FILE       read after it: scalar keys replace, sections of the same title merge, "
		"lists replace\n"
		"  --check           say what is wrong with file, line, key and reason, or what is in force; "
		"exit 0 or 1\n"
		"  --print-defaults  every key with its default and documentation, as a configuration\n"
		"  --print-docs      the same as pages of documentation\n%s",
		table->program, table->file, more ? more : "");
	exit(status);
}

static NORETURN void finish_output(void)
{
	exit(fflush(stdout) || ferror(stdout) ? EXIT_BAD : EXIT_GOOD);
}

static NORETURN void explain(const struct conf *conf, const char *const *files, size_t count)
{
	printf("good:");
	for (size_t i = 0; i < count; i++)
		printf(" %s", files[i]);
	printf("\n\n# in force besides the defaults\n");
	conf_print(conf, stdout);
	finish_output();
}

struct conf *conf_command_line(const struct conf_table *table, int argc, char **argv, const char *more)
{
	const char *files[FILES_MOST];
	size_t count = 1;
	bool check = false;
	struct conf *conf = NULL;
	struct buf why = {0};

	files[0] = table->file;
	for (int i = 1; i < argc; i++) {
		const char *word = argv[i];

		if ((strcmp(word, "-c") == 0 || strcmp(word, "--conf") == 0) && i + 1 < argc) {
			if (word[1] == 'c')
				files[0] = argv[++i];
			else if (count < FILES_MOST)
				files[count++] = argv[++i];
			else
				usage(table, more, stderr, EXIT_USAGE);
		} else if (strcmp(word, "--check") == 0) {
			check = true;
		} else if (strcmp(word, "--print-defaults") == 0) {
			conf_print_defaults(table, stdout);
			finish_output();
		} else if (strcmp(word, "--print-docs") == 0) {
			conf_print_docs(table, stdout);
			finish_output();
		} else if (strcmp(word, "--version") == 0) {
			printf("%s %s\n", table->program, MAILTIER_VERSION);
			finish_output();
		} else if (strcmp(word, "--help") == 0) {
			usage(table, more, stdout, EXIT_GOOD);
		} else {
			bool lacks_file = strcmp(word, "-c") == 0 || strcmp(word, "--conf") == 0;

			fprintf(stderr, lacks_file ? "%s: %s needs a FILE\n" : "%s: what is \"%s\"?\n",
				table->program, word);
			usage(table, more, stderr, EXIT_USAGE);
		}
	}
	if (conf_load(table, files, count, &why, &conf)) {
		fputs(buf_str_view(&why), stderr);
		exit(EXIT_BAD);
	}
	buf_deinit(&why);
	if (check)
		explain(conf, files, count);
	return conf;
}
