/*
 * The folder of a backup:
 *
 *	mailtier-backup              says so; locked by whoever works on it
 *	packs/ index/                the bodies (backup_pack.h)
 *	accounts/DIGEST/TIME-PRINT   states of one account, newest last: its stream, with bodies by reference
 *	domains/TIME-PRINT           states of domains and classes: the commands that make them, for a shell
 *
 * DIGEST is of the address, so that no name makes a path; PRINT changes with every change of the account, and is a checksum of the
 * commands. A state is written
 * beside, synced, and gets its name in one step: a run that is cut leaves what was there. All of it blocks.
 */
#pragma once

#include "backend/admin/backup_io.h"
#include "backend/admin/backup_pack.h"

struct backup_dir;

/* is_new_ok: for writing; an absent or empty folder becomes a backup. ERR_NOT_NOW: somebody writes to it. why gets a sentence. */
MUST_CHECK int backup_dir_open(const char *path, bool writes, struct backup_dir **dir_out, struct buf *why);
/* Accepts NULL, sets NULL. */
void backup_dir_close(struct backup_dir **dir);
struct backup_pack *backup_dir_pack(struct backup_dir *dir);

/* Octets of bodies a second that saving may write; 0: no limit. */
void backup_dir_set_rate(struct backup_dir *dir, uint64_t rate);
/* The state of an account now, unless it is the last one's: then ERR_EXISTS. States beyond the newest `keep` go (0: none do). */
MUST_CHECK int backup_dir_save(
	struct backup_dir *dir, struct backup_io *io, const struct store_account *account, unsigned keep);

struct backup_state {
	char digest[33];
	char name[40];
	int64_t time;
	bool is_newest; /* of its account */
};
/* Calls fn for each state, oldest first within an account; its first result that is not 0 ends it. */
typedef int backup_state_fn(void *arg, const struct backup_state *state);
MUST_CHECK int backup_dir_each(struct backup_dir *dir, backup_state_fn *fn, void *arg);
/* The newest of an account that is not after `before` (0: of all). ERR_NOT_FOUND. address in its stored form. */
MUST_CHECK int backup_dir_find(
	struct backup_dir *dir, struct slice address, int64_t before, struct backup_state *state_out);
/* Reads a state's records. */
MUST_CHECK int backup_dir_read(struct backup_dir *dir, const struct backup_state *state, stream_record_fn *fn,
	void *arg, struct buf *why);

/* ---- domains and classes: states with an empty digest ---- */

/* The commands as they are now, unless they are the last state's: then ERR_EXISTS. No commands and no state: ERR_EXISTS, too. */
MUST_CHECK int backup_dir_save_domains(struct backup_dir *dir, struct slice commands, unsigned keep);
/* As backup_dir_each(). */
MUST_CHECK int backup_dir_each_domains(struct backup_dir *dir, backup_state_fn *fn, void *arg);
/* ERR_CORRUPT: it is not what was written. */
MUST_CHECK int backup_dir_verify_domains(struct backup_dir *dir, const struct backup_state *state);
