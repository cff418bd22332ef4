/*
 * A private OpenLDAP server for tests: on a loopback port that was free, in a folder of its own, ended by its pid. Header
 * alone, so that each test program links what it needs. slapd_is_there() says whether it can be had at all.
 */
#pragma once

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define SLAPD_BASE "dc=corp,dc=example"
#define SLAPD_PEOPLE "ou=people," SLAPD_BASE
#define SLAPD_READER "cn=mailproxy," SLAPD_BASE
#define SLAPD_READER_PASSWORD "reader-Pw"

struct slapd {
	char dir[64];
	int port, tls_port;
	unsigned
		users; /* besides those of slapd_entries(): u0@corp.example and on, with passwords in clear */
	pid_t pid;
};

static inline bool slapd_is_there(void)
{
	return access("/usr/sbin/slapd", X_OK) == 0 &&
	       access("/etc/ldap/schema/inetorgperson.schema", R_OK) == 0;
}

static inline int slapd_free_port(void)
{
	struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	socklen_t len = sizeof(a);
	int fd = socket(AF_INET, SOCK_STREAM, 0);

	if (bind(fd, (struct sockaddr *)&a, sizeof(a)) || getsockname(fd, (struct sockaddr *)&a, &len))
		return 0;
	close(fd);
	return ntohs(a.sin_port);
}

static inline FILE *slapd_file(const struct slapd *s, const char *name)
{
	char path[128];

	snprintf(path, sizeof(path), "%s/%s", s->dir, name);
	return fopen(path, "w");
}

static inline bool slapd_run(const char *command)
{
	int rc = system(command);

	return rc == 0;
}

static inline bool slapd_certificates(const struct slapd *s)
{
	char command[700];

	snprintf(command, sizeof(command),
		"openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 30 -subj "
		"/CN=localhost "
		"-addext subjectAltName=DNS:localhost,IP:127.0.0.1 -keyout %s/key.pem -out %s/cert.pem "
		"2>/dev/null && "
		"openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 30 -subj "
		"/CN=other "
		"-keyout %s/other-key.pem -out %s/other.pem 2>/dev/null",
		s->dir, s->dir, s->dir, s->dir);
	return slapd_run(command);
}

static inline bool slapd_configure(const struct slapd *s)
{
	FILE *f = slapd_file(s, "slapd.conf");

	if (!f)
		return false;
	fprintf(f, "include /etc/ldap/schema/core.schema\ninclude /etc/ldap/schema/cosine.schema\n"
		   "include /etc/ldap/schema/inetorgperson.schema\ninclude /etc/ldap/schema/misc.schema\n"
		   "modulepath /usr/lib/ldap\nmoduleload back_mdb\n");
	fprintf(f, "pidfile %s/slapd.pid\nTLSCertificateFile %s/cert.pem\nTLSCertificateKeyFile %s/key.pem\n",
		s->dir, s->dir, s->dir);
	fprintf(f,
		"loglevel 0\nthreads 4\naccess to attrs=userPassword by dn.exact=\"" SLAPD_READER
		"\" read by anonymous auth by * none\n"
		"access to * by dn.exact=\"" SLAPD_READER "\" read by * none\n"
		"database mdb\nsuffix \"" SLAPD_BASE "\"\ndirectory %s/db\nmaxsize 134217728\n"
		"index objectClass,mail,uid eq\n",
		s->dir);
	return fclose(f) == 0;
}

/* name: uid; more: further lines. */
static inline void slapd_user(
	FILE *f, const char *name, const char *password, const char *host, const char *more)
{
	fprintf(f,
		"dn: uid=%s," SLAPD_PEOPLE
		"\nobjectClass: inetOrgPerson\nobjectClass: inetLocalMailRecipient\n"
		"uid: %s\ncn: %s\nsn: x\n",
		name, name, name);
	if (password)
		fprintf(f, "userPassword: %s\n", password);
	if (host)
		fprintf(f, "mailHost: %s\n", host);
	fprintf(f, "%s\n", more);
}

/* Users: see the calls. Passwords are NAME-Pw. */
static inline bool slapd_entries(const struct slapd *s)
{
	FILE *f = slapd_file(s, "users.ldif");
	char command[300];

	if (!f)
		return false;
	fprintf(f,
		"dn: " SLAPD_BASE "\nobjectClass: dcObject\nobjectClass: organization\no: corp\ndc: corp\n\n"
		"dn: ou=people," SLAPD_BASE "\nobjectClass: organizationalUnit\nou: people\n\n"
		"dn: " SLAPD_READER "\nobjectClass: organizationalRole\nobjectClass: simpleSecurityObject\n"
		"cn: mailproxy\nuserPassword: " SLAPD_READER_PASSWORD "\n\n");
	slapd_user(f, "alice", "alice-Pw", "b1",
		"mail: alice@corp.example\nmailLocalAddress: sales@corp.example\n");
	/* SSHA of "bob-Pw" */
	slapd_user(f, "bob", "{SSHA}6BcH4NkZO2n2pg6dQghcYmjs781zYWx0c2FsdA==", "10.0.0.12",
		"mail: bob@corp.example\n");
	slapd_user(f, "nohost", "nohost-Pw", NULL, "mail: nohost@corp.example\n");
	slapd_user(f, "nopass", NULL, "b2", "mail: nopass@corp.example\n");
	slapd_user(f, "badhost", "badhost-Pw", "no_such_backend", "mail: badhost@corp.example\n");
	slapd_user(f, "twin1", "twin1-Pw", "b1", "mail: twin@corp.example\n");
	slapd_user(f, "twin2", "twin2-Pw", "b2", "mail: twin@corp.example\n");
	slapd_user(f, "star", "star-Pw", "b2", "mail: o.paren(x)*@corp.example\n");
	slapd_user(f, "list", "list-Pw", "b2, 10.0.0.12 b1", "mail: list@corp.example\n");
	slapd_user(f, "values", "values-Pw", NULL,
		"description: b2\ndescription: b1\nmail: values@corp.example\n");
	slapd_user(f, "halfbad", "halfbad-Pw", "b2,nonsense", "mail: halfbad@corp.example\n");
	slapd_user(f, "gone", "gone-Pw", "b1", "description: Disabled\nmail: gone@corp.example\n");
	slapd_user(f, "sender", "sender-Pw", NULL, "description: send-only\nmail: sender@corp.example\n");
	slapd_user(f, "adgone", "adgone-Pw", "b1", "description: 514\nmail: adgone@corp.example\n");
	slapd_user(f, "adwell", "adwell-Pw", "b1", "description: 512\nmail: adwell@corp.example\n");
	slapd_user(f, "other", "other-Pw", "b2", "mail: other@elsewhere.example\n");
	for (unsigned i = 0; i < s->users; i++) {
		char name[20], more[60];

		snprintf(name, sizeof(name), "u%u", i);
		snprintf(more, sizeof(more), "mail: u%u@corp.example\n", i);
		slapd_user(f, name, "many-Pw", i % 2 ? "b1" : "b2", more);
	}
	if (fclose(f))
		return false;
	snprintf(command, sizeof(command),
		"/usr/sbin/slapadd -q -f %s/slapd.conf -l %s/users.ldif >/dev/null 2>&1", s->dir, s->dir);
	return slapd_run(command);
}

static inline bool slapd_answers(int port)
{
	struct sockaddr_in a = {.sin_family = AF_INET,
		.sin_addr.s_addr = htonl(INADDR_LOOPBACK),
		.sin_port = htons((uint16_t)port)};
	int fd = socket(AF_INET, SOCK_STREAM, 0);
	bool is = connect(fd, (struct sockaddr *)&a, sizeof(a)) == 0;

	close(fd);
	return is;
}

/* Starts (again), on the same ports. */
static inline bool slapd_start(struct slapd *s)
{
	const struct timespec pause = {.tv_nsec = 20 * 1000 * 1000};
	char config[100], urls[120];

	snprintf(config, sizeof(config), "%s/slapd.conf", s->dir);
	snprintf(urls, sizeof(urls), "ldap://127.0.0.1:%d ldaps://127.0.0.1:%d ldaps://127.0.0.2:%d", s->port,
		s->tls_port, s->tls_port);
	s->pid = fork();
	if (s->pid == 0) {
		int null = open("/dev/null", O_RDWR);

		dup2(null, 1);
		dup2(null, 2);
		execl("/usr/sbin/slapd", "slapd", "-d", "0", "-f", config, "-h", urls, (char *)NULL);
		_exit(127);
	}
	for (int i = 0; s->pid > 0 && i < 500; i++) {
		if (slapd_answers(s->port))
			return true;
		if (waitpid(s->pid, NULL, WNOHANG) == s->pid)
			return false;
		nanosleep(&pause, NULL);
	}
	return false;
}

static inline bool slapd_new_of(struct slapd *s, unsigned users)
{
	char db[80];

	*s = (struct slapd){.pid = -1, .users = users};
	snprintf(s->dir, sizeof(s->dir), "/tmp/mailtier-slapd-XXXXXX");
	if (!mkdtemp(s->dir))
		return false;
	snprintf(db, sizeof(db), "%s/db", s->dir);
	s->port = slapd_free_port();
	s->tls_port = slapd_free_port();
	return s->port && s->tls_port && mkdir(db, 0700) == 0 && slapd_certificates(s) &&
	       slapd_configure(s) && slapd_entries(s) && slapd_start(s);
}

static inline bool slapd_new(struct slapd *s)
{
	return slapd_new_of(s, 0);
}

/* Stopped for good when it returns; slapd_go() lets it run again. */
static inline bool slapd_halt(const struct slapd *s)
{
	int status = 0;

	return kill(s->pid, SIGSTOP) == 0 && waitpid(s->pid, &status, WUNTRACED) == s->pid &&
	       WIFSTOPPED(status);
}

static inline bool slapd_go(const struct slapd *s)
{
	return kill(s->pid, SIGCONT) == 0;
}

static inline void slapd_kill(struct slapd *s)
{
	if (s->pid > 0) {
		kill(s->pid, SIGCONT);
		kill(s->pid, SIGKILL);
		waitpid(s->pid, NULL, 0);
	}
	s->pid = -1;
}

static inline void slapd_free(struct slapd *s)
{
	char command[100];

	slapd_kill(s);
	snprintf(command, sizeof(command), "rm -rf '%s'", s->dir);
	(void)slapd_run(command);
}
