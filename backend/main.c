/* mailtier-backend: reads its configuration, starts what it names, and waits for signals; or looks into a
 * closed store. */
#include <string.h>

#include "backend/start.h"
#include "common/base/mem.h"
#include "backend/admin/store_verbs.h"

int main(int argc, char **argv)
{
	static const char more[] =
		"  --store DIR check|stat|repair|compact   proves a closed store, shows its figures, "
		"mends it, or makes its files small; exit 0, or 1 with findings\n";
	struct backend backend = {0};

	mem_init();
	if (argc > 2 && strcmp(argv[1], "--store") == 0)
		return store_verbs_offline(argv[2], argc - 3, argv + 3);
	backend.handover = handover_new(argc, argv);
	start_all(&backend, conf_command_line(&config_table, argc, argv, more));
	start_run(&backend);
	return 0;
}
