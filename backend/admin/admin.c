#include "backend/admin/admin.h"

#include "backend/admin/account_import.h"
#include "backend/admin/account_show.h"
#include "backend/admin/accounts.h"
#include "backend/admin/acl_verbs.h"
#include "backend/admin/backup_store.h"
#include "backend/admin/backup_verbs.h"
#include "backend/admin/classes.h"
#include "backend/admin/domain_dump.h"
#include "backend/admin/domains.h"
#include "backend/admin/index_verbs.h"
#include "backend/admin/queue_verbs.h"
#include "backend/admin/quota_verbs.h"
#include "backend/admin/sessions.h"
#include "backend/admin/store_verbs.h"
#include "backend/admin/tls_report_verbs.h"
#include "backend/admin/undelete.h"

void admin_register(struct admin *admin)
{
	accounts_register(admin);
	account_show_register(admin);
	account_import_register(admin);
	domains_register(admin);
	domain_dump_register(admin);
	classes_register(admin);
	sessions_register(admin);
	store_verbs_register(admin);
	index_verbs_register(admin);
	undelete_register(admin);
	backup_verbs_register(admin);
	quota_verbs_register(admin);
	queue_verbs_register(admin);
	tls_report_verbs_register(admin);
	backup_store_register(admin);
	acl_verbs_register(admin);
}
