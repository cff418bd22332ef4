/*
 * IMAP commands as a server reads them (RFC 3501 section 9, RFC 7888): bytes in, a tree of arguments out.
 *
 * The parser never answers, never waits and never holds a message: it announces "a literal of N bytes" and the
 * caller says what becomes of it: held in the tree, streamed past the parser, or refused. All memory, each
 * list node included, comes from the caller's arena and is counted there; the limits bound every dimension.
 * One parser a session; its tree and all slices in it live until the arena is reset.
 *
 * "UID FETCH" and its kin are one command word. Lines end in CRLF; a bare LF is taken too. The caller's input
 * buffer must be able to hold limits->line bytes.
 *
 *	imap_parse_start()
 *	  -> imap_parse_feed() until IMAP_PARSE_COMMAND or IMAP_PARSE_BAD
 *	       IMAP_PARSE_LITERAL: imap_parse_hold() (send "+ OK" first if it is synchronising), imap_parse_stream()
 *	       or imap_parse_refuse(), then feed on
 *	  -> handle it, reset the arena, imap_parse_start()
 */
#pragma once

#include <sys/types.h>

#include "common/base/arena.h"
#include "common/base/attr.h"
#include "common/base/error.h"

/* Non-synchronising literals that the client may send (RFC 7888). */
enum imap_literals {
	IMAP_LITERALS_MINUS, /* of at most 4,096 bytes */
	IMAP_LITERALS_PLUS   /* of any size within the limits */
};

struct imap_parse_limits {
	size_t line;            /* a piece of a command between literals, its line end included */
	size_t command;         /* all pieces and held literals of one command together */
	uint64_t literal;       /* one held literal */
	uint64_t literal_total; /* all held literals of one command */
	unsigned literals;      /* how many literals in one command */
	unsigned args;          /* arguments at the top level */
	unsigned nodes;         /* of the tree, nested ones included */
	unsigned depth;         /* nested lists */
	uint64_t skip;          /* of a broken command's non-synchronising literals, to keep the frame */
	enum imap_literals nonsync;
	bool wants_utf8; /* 8-bit octets of a quoted string must be UTF-8 (RFC 6855 section 3) */
};

/* At most 16 KiB and 8 arguments: nobody has shown who he is. Use an arena limited to
 * IMAP_PARSE_ARENA_BEFORE. */
extern const struct imap_parse_limits imap_parse_limits_before_login;
extern const struct imap_parse_limits imap_parse_limits_after_login;
#define IMAP_PARSE_ARENA_BEFORE (16u * 1024)
#define IMAP_PARSE_ARENA_AFTER (2u * 1024 * 1024)

enum imap_arg_type {
	IMAP_ARG_ATOM,    /* any run of characters but blanks, ( ) { " and controls; \ only in front; 7 bit */
	IMAP_ARG_QUOTED,  /* escapes are undone; may hold 8-bit octets, never NUL, CR, LF */
	IMAP_ARG_LITERAL, /* held; any octet but NUL */
	IMAP_ARG_BINARY,  /* a literal8, held by imap_parse_hold_binary(); any octet */
	IMAP_ARG_STREAM,  /* a literal that went past the parser: only `size` is known */
	IMAP_ARG_LIST
};

struct imap_arg {
	struct imap_arg *next;  /* NULL at the end of the list */
	struct imap_arg *first; /* of a list; NULL when it is empty */
	struct slice text;      /* ATOM, QUOTED, LITERAL: in the parser's arena */
	uint64_t size;          /* of a literal */
	enum imap_arg_type type;
	bool is_glued; /* no blank stands before it: the "]" after the list of BODY[HEADER.FIELDS (...)] */
};

struct imap_command {
	struct slice tag;      /* empty if the line had no legal tag: answer untagged */
	struct slice name;     /* the command word in capitals, "UID FETCH" too; empty if there was none */
	struct imap_arg *args; /* first argument, or NULL */
	unsigned count;        /* arguments at the top level */
};

enum imap_parse_event {
	IMAP_PARSE_MORE,    /* more input is needed */
	IMAP_PARSE_LITERAL, /* a literal is announced in p->literal; it is the last argument so far */
	IMAP_PARSE_COMMAND, /* p->command is whole */
	IMAP_PARSE_BAD      /* the command was broken and is skipped to its end: answer BAD with p->reason */
};

struct imap_literal {
	uint64_t size;
	bool is_sync;   /* the client waits for a continuation before it sends */
	unsigned depth; /* 0: an argument at the top level */
	bool is_binary; /* ~{n} (RFC 3516): may have NULs; imap_parse_hold() refuses it */
};

struct imap_parse {
	struct imap_command command;
	struct imap_literal literal;
	const char *reason; /* of IMAP_PARSE_BAD: fixed text for the client */
	/* the parser's own */
	const struct imap_parse_limits *limits;
	struct arena *arena;
	struct imap_arg *literal_arg; /* the one announced or being filled */
	struct imap_arg **tail;       /* where the next argument of the innermost open list goes */
	struct imap_arg ***stack;     /* tails of the lists around it; limits->depth places */
	uint64_t literal_left;        /* bytes to hold or skip */
	uint64_t literal_total;
	size_t held;    /* bytes of this command so far */
	size_t scanned; /* of the input: has no line end */
	unsigned nodes;
	unsigned literals;
	unsigned depth;
	uint64_t skipped;
	int state;
	int after; /* what stands before the next token */
};

/* Starts with a new command; limits and arena are borrowed for its length. */
void imap_parse_start(struct imap_parse *p, const struct imap_parse_limits *limits, struct arena *arena);

/*
 * Takes the input from its begin; returns how many bytes are consumed (0 included) and says in *event_out
 * what came of it. Give it all the input there is each time, from where the last call consumed to; lines are
 * consumed whole. < 0: ERR_TOO_BIG, and the dialogue has lost its frame (endless line, a non-synchronising
 * literal beyond the limits): say BYE and close. Linear in the input, however it is cut.
 */
MUST_CHECK ssize_t imap_parse_feed(struct imap_parse *p, struct slice in, enum imap_parse_event *event_out);

/* The answers to IMAP_PARSE_LITERAL. Hold: the bytes become part of the tree; ERR_TOO_BIG: beyond a limit, ERR_SYNTAX: a
 * literal8, and the command will end in IMAP_PARSE_BAD (do not send a continuation). */
MUST_CHECK int imap_parse_hold(struct imap_parse *p);
/* The same also for a literal8 (RFC 3516), which becomes an IMAP_ARG_BINARY: no string to the functions below. */
MUST_CHECK int imap_parse_hold_binary(struct imap_parse *p);
/* Stream: the caller takes literal.size bytes out of the input himself, then feeds what follows. */
void imap_parse_stream(struct imap_parse *p);
/* Refuse: the command ends in IMAP_PARSE_BAD with this reason, after what is on its way has been skipped. */
void imap_parse_refuse(struct imap_parse *p, const char *reason);

/* One line, for the answers to AUTHENTICATE's and IDLE's continuations: > 0 consumed, the line without its
 * end; 0: more; ERR_TOO_BIG beyond limit bytes. */
MUST_CHECK ssize_t imap_parse_line(struct slice in, size_t limit, struct slice *line_out);

/* ---- reading arguments: 0, or ERR_SYNTAX if the argument is absent or of another kind ---- */

/* astring: atom, quoted or held literal. An atom must not have % or *. */
MUST_CHECK int imap_parse_astring(const struct imap_arg *arg, struct slice *text_out);
/* list-mailbox: as astring, but wildcards may stand in an atom too. */
MUST_CHECK int imap_parse_list_mailbox(const struct imap_arg *arg, struct slice *text_out);
MUST_CHECK int imap_parse_atom(const struct imap_arg *arg, struct slice *text_out);
/* string or NIL; NIL gives a NULL pointer. */
MUST_CHECK int imap_parse_nstring(const struct imap_arg *arg, struct slice *text_out);
MUST_CHECK int imap_parse_u32(const struct imap_arg *arg, uint32_t *n_out);
/* mod-sequence-valzer: 63 bits (RFC 7162 section 7). */
MUST_CHECK int imap_parse_u63(const struct imap_arg *arg, uint64_t *n_out);
/* The atom compares equal to this word in any case. False for other kinds and for NULL. */
bool imap_parse_is_word(const struct imap_arg *arg, const char *word);
