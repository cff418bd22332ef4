/* mailtierctl tlsrpt show, tlsrpt report: what has become of TLS towards other domains (backend/delivery/tls_report.h). */
#pragma once

#include "backend/admin/admin.h"

/* After sending has started. */
void tls_report_verbs_register(struct admin *admin);
