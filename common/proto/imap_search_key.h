/*
 * What a SEARCH asks for (RFC 3501 section 6.4.4, RFC 4731, 5032, 5182, 7162, 9394): from the parser's argument
 * tree to a tree of keys, strings in UTF-8. Children of AND and OR stand in the order of what they cost. Memory from
 * the caller's arena. Pure; any thread.
 */
#pragma once

#include "common/proto/imap_parse.h"
#include "common/proto/imap_partial.h"
#include "common/proto/seqset.h"

enum imap_search_type {
	IMAP_SEARCH_ALL,
	IMAP_SEARCH_AND,   /* children */
	IMAP_SEARCH_OR,    /* two children */
	IMAP_SEARCH_NOT,   /* one child */
	IMAP_SEARCH_SEQ,   /* set, unresolved */
	IMAP_SEARCH_UID,   /* set, unresolved */
	IMAP_SEARCH_SAVED, /* the messages of "$" */
	IMAP_SEARCH_FLAG,  /* flag is set */
	IMAP_SEARCH_RECENT,
	IMAP_SEARCH_KEYWORD, /* text */
	IMAP_SEARCH_BEFORE,  /* day: internal date */
	IMAP_SEARCH_ON,
	IMAP_SEARCH_SINCE,
	IMAP_SEARCH_OLDER, /* number: seconds before now */
	IMAP_SEARCH_YOUNGER,
	IMAP_SEARCH_LARGER, /* number */
	IMAP_SEARCH_SMALLER,
	IMAP_SEARCH_MODSEQ,      /* number */
	IMAP_SEARCH_SAVEDBEFORE, /* day: SAVEDATE */
	IMAP_SEARCH_SAVEDON,
	IMAP_SEARCH_SAVEDSINCE,
	IMAP_SEARCH_EMAILID,    /* text */
	IMAP_SEARCH_THREADID,   /* text */
	IMAP_SEARCH_SENTBEFORE, /* day: Date field */
	IMAP_SEARCH_SENTON,
	IMAP_SEARCH_SENTSINCE,
	IMAP_SEARCH_HEADER, /* name, text; an empty text: the field is there */
	IMAP_SEARCH_BODY,   /* text */
	IMAP_SEARCH_TEXT    /* text */
};

enum imap_search_flag {
	IMAP_SEARCH_SEEN,
	IMAP_SEARCH_ANSWERED,
	IMAP_SEARCH_FLAGGED,
	IMAP_SEARCH_DELETED,
	IMAP_SEARCH_DRAFT
};

/* How far into a message one must look. */
enum imap_search_cost {
	IMAP_SEARCH_COST_INDEX,
	IMAP_SEARCH_COST_RECORD,
	IMAP_SEARCH_COST_HEADER,
	IMAP_SEARCH_COST_BODY,
	IMAP_SEARCH_COSTS
};

struct imap_search_key {
	struct imap_search_key *next;
	struct imap_search_key *first; /* child */
	enum imap_search_type type;
	enum imap_search_flag flag;
	enum imap_search_cost cost; /* the greatest of its children's */
	bool is_of_envelope; /* HEADER: as ENVELOPE has it (SUBJECT), not any field of the name (HEADER Subject) */
	struct slice name;
	struct slice text; /* UTF-8 */
	struct seqset set;
	uint64_t number;
	int32_t day;
	void *user; /* the searcher's own */
};

enum imap_search_return {
	IMAP_SEARCH_RETURN_MIN = 1,
	IMAP_SEARCH_RETURN_MAX = 2,
	IMAP_SEARCH_RETURN_ALL = 4,
	IMAP_SEARCH_RETURN_COUNT = 8,
	IMAP_SEARCH_RETURN_PARTIAL = 16,
	IMAP_SEARCH_RETURN_SAVE = 32
};

struct imap_search {
	struct imap_search_key *key;
	unsigned returns; /* of ESEARCH; 0: an old SEARCH */
	struct imap_partial partial;
	bool has_modseq;  /* MODSEQ is among the keys: the response tells the highest */
	bool has_seq;     /* a set of sequence numbers is */
	bool has_charset; /* CHARSET was given */
};

/* RETURN and its options, of SEARCH and SORT: *args moves behind them. ERR_SYNTAX. */
MUST_CHECK int imap_search_key_parse_returns(const struct imap_arg **args, struct imap_search *search_out);
/* Charset and keys of SORT and THREAD: fills what parse_returns() did not. Errors as below. */
MUST_CHECK int imap_search_key_parse_program(
	const struct imap_arg *args, struct arena *arena, struct imap_search *search_out);
/* args: all of the command. ERR_SYNTAX; ERR_UNSUPPORTED: BADCHARSET, and `returns` is set; ERR_TOO_BIG:
 * nested too deeply, arena full. */
MUST_CHECK int imap_search_key_parse(
	const struct imap_arg *args, struct arena *arena, struct imap_search *search_out);
