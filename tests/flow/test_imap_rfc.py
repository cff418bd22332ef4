"""IMAP by the book: RFC 3501 sections 6 and 7 command by command, and the extensions that are advertised, as rows of what is sent
and patterns that the whole answer must match (or, behind "!", must not). Through the proxy and directly; what real clients send
stands among them."""
import re

import mt
from imap_wire import Wire, fetch_items

MAIL = (b"Date: Mon, 7 Feb 1994 21:52:25 -0800\r\nFrom: \"Terry \\\"T\\\" Gray\" <gray@cac.example>\r\nSubject: =?utf-8?Q?gr=C3=BC=C3=9Fe?=\r\n"
        b"To: imap@cac.example, group: a@x.example, b@x.example;\r\nCc: minutes@example.org\r\nMessage-Id: <B27397@cac.example>\r\n"
        b"In-Reply-To: \r\nMIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=\"b1\"\r\n\r\npreamble\r\n"
        b"--b1\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: 8bit\r\n\r\nHello W\xc3\xb6rld\r\n"
        b"--b1\r\nContent-Type: message/rfc822\r\n\r\nSubject: inner\r\nContent-Type: text/html\r\n\r\n<b>inside</b>\r\n"
        b"--b1\r\nContent-Type: application/pdf; name=\"a b.pdf\"\r\nContent-Disposition: attachment; filename=\"a b.pdf\"\r\n"
        b"Content-Transfer-Encoding: base64\r\n\r\nAAAA\r\n--b1--\r\n")
PLAIN = b"Subject: plain\r\n\r\nnothing special\r\n"


def append(box, mail, rest=b""):
    return b"APPEND %s %s{%d+}\r\n%s" % (box, rest, len(mail), mail)


OK, NO, BAD = rb"(?m)^TAG OK ", rb"(?m)^TAG NO ", rb"(?m)^TAG BAD "

# RFC 3501 section 6.1, 6.2 and what may be said before login.
BEFORE = [
    (b"CAPABILITY", rb"\A\* CAPABILITY (?=.*IMAP4rev1).*\r\nTAG OK", rb"!XLIST"),
    (b"capability", OK),
    (b"NOOP", OK),
    (b"ID NIL", rb"\* ID ", OK),
    (b'ID ("name" "Thunderbird" "version" NIL)', OK),
    (b"SELECT INBOX", BAD),
    (b'LIST "" "*"', BAD),
    (b"LOGIN", BAD),
    (b"LOGIN user0001@example.test wrong", rb"TAG NO \[AUTHENTICATIONFAILED\]"),
    (b"AUTHENTICATE NOSUCH", NO),
    (b"AUTHENTICATE PLAIN =", rb"TAG (NO|BAD)"),
    (b"FROBNICATE", BAD),
]

# In order, on one session of a fresh account.
TABLE = [
    # what is advertised
    (b"CAPABILITY", rb"(?=.* IMAP4rev1)(?=.* LITERAL\+)(?=.* UIDPLUS)(?=.* IDLE)(?=.* UNSELECT)(?=.* MOVE)(?=.* ENABLE)(?=.* ID)"
     rb"(?=.* LIST-EXTENDED)(?=.* LIST-STATUS)(?=.* ESEARCH)(?=.* CONDSTORE)(?=.* QUOTA)(?=.* SPECIAL-USE)(?=.* NAMESPACE)(?=.* CHILDREN)",
     rb"(?=.* SEARCHRES)(?=.* WITHIN)(?=.* PARTIAL)(?=.* SORT )(?=.* SORT=DISPLAY)(?=.* ESORT)(?=.* THREAD=ORDEREDSUBJECT)"
     rb"(?=.* THREAD=REFERENCES)(?=.* SAVEDATE)(?=.* OBJECTID)(?=.* PREVIEW)(?=.* INPROGRESS)(?=.* MULTISEARCH)",
     rb"!STARTTLS", rb"!LOGINDISABLED", rb"!AUTH=", OK),
    (b"LOGIN a b", BAD),
    (b"AUTHENTICATE PLAIN", BAD),
    (b"STARTTLS", BAD),
    (b"NAMESPACE", rb'\* NAMESPACE \(\("" "/"\)\) \(\("user/" "/"\)\) NIL\r\n', OK),
    (b'ID ("name" "x" "vendor" NIL)', rb"\* ID \(", OK),
    (b"ID x", BAD),
    (b"ID", BAD),
    (b'ID ("name")', BAD),
    (b"NOOP x", BAD),
    (b"FETCH 1 FLAGS", BAD),
    (b"CLOSE", BAD),
    (b"EXPUNGE", BAD),
    (b"CHECK", BAD),
    (b"UNSELECT", BAD),
    # names
    (b'LIST "" ""', rb'\A\* LIST \(\\Noselect\) "/" ""\r\nTAG OK'),
    (b'LIST "x" ""', rb'\A\* LIST \(\\Noselect\) "/" (""|x)\r\nTAG OK'),
    (b'LIST "" %', rb'(?m)^\* LIST \([^)]*\) "/" "?INBOX"?\r$', OK),
    (b'LIST "" inbox', rb'"/" "?INBOX"?\r\n', OK),
    (b'LIST "" iNb%', rb'"/" "?INBOX"?\r\n', OK),
    (b"CREATE INBOX", NO),
    (b"CREATE inbox", NO),
    (b"DELETE INBOX", NO),
    (b"DELETE inBOX", NO),
    (b'CREATE ""', rb"TAG (NO|BAD)"),
    (b'CREATE "a b"', OK),
    (b'CREATE "a b"', rb"TAG NO \[ALREADYEXISTS\]"),
    (b'CREATE "quote\\"d \\\\ back"', OK),
    (b'LIST "" "quote*"', rb'"quote\\"d \\\\ back"\r\n|\{15\}\r\nquote"d \\ back', OK),
    (b"CREATE {11+}\r\nlit \xc3\xa4 eral", rb"TAG (NO|BAD|OK)"),
    (b"CREATE &AOQ-rger", OK),
    (b'LIST "" "&AOQ-*"', rb'"/" "?&AOQ-rger"?\r\n', OK),
    (b"CREATE &Jjo!", rb"TAG NO"),
    (b"CREATE &AGE-", rb"TAG NO"),
    (b"CREATE R&-D", OK),
    (b'LIST "" R*', rb"R&-D", OK),
    (b"CREATE top/", OK),
    (b'LIST "" top*', rb'"/" "?top"?\r\n', OK),
    (b"CREATE top/mid/low", OK),
    (b'LIST "" top/%', rb"top/mid", rb"!top/mid/low", OK),
    (b'LIST "top/" %', rb"top/mid", OK),
    (b'LIST "" "%/%/%"', rb"top/mid/low", OK),
    (b'LIST "" top', rb"\\HasChildren", OK),
    (b'LIST "" top/mid/low', rb"\\HasNoChildren", OK),
    (b"DELETE nonesuch", rb"TAG NO \[NONEXISTENT\]"),
    (b"SELECT nonesuch", rb"TAG NO \[NONEXISTENT\]"),
    (b"STATUS nonesuch (MESSAGES)", rb"TAG NO"),
    (b"RENAME nonesuch other", rb"TAG NO \[NONEXISTENT\]"),
    (b"RENAME top/mid moved", OK),
    (b'LIST "" *', rb"moved/low", rb"!top/mid", OK),
    (b"RENAME moved top", rb"TAG NO \[ALREADYEXISTS\]"),
    (b"RENAME moved moved/below", rb"TAG NO"),
    (b"DELETE moved", OK),
    (b'LIST "" moved*', rb"\(\\[^)]*\\Noselect[^)]*\) \"/\" \"?moved\"?\r", rb"moved/low", OK),
    (b"SELECT moved", NO),
    (b"DELETE moved", NO),
    (b"DELETE moved/low", OK),
    (b"DELETE moved", rb"TAG"),
    (b"SUBSCRIBE INBOX", OK),
    (b'SUBSCRIBE "a b"', OK),
    (b'LSUB "" *', rb'\* LSUB \([^)]*\) "/" "a b"\r\n', OK),
    (b'LIST (SUBSCRIBED) "" *', rb'\\Subscribed[^)]*\) "/" "a b"', rb"!R&-D", OK),
    (b"SUBSCRIBE top", OK),
    (b"CREATE top/sub", OK),
    (b"SUBSCRIBE top/sub", OK),
    (b"UNSUBSCRIBE top", OK),
    (b'LSUB "" %', rb'\* LSUB \(\\Noselect\) "/" "?top"?\r\n', OK),
    (b'LIST (SUBSCRIBED RECURSIVEMATCH) "" %', rb'"/" "?top"? \("CHILDINFO" \("SUBSCRIBED"\)\)\r\n', OK),
    (b'LIST (RECURSIVEMATCH) "" %', BAD),
    (b'LIST (NOSUCH) "" %', BAD),
    (b'LIST "" ("a*" "R*") RETURN (CHILDREN SUBSCRIBED)', rb'"a b"', rb"R&-D", OK),
    (b'LIST () "" % RETURN ()', OK),
    (b'LIST "" "a b" RETURN (STATUS (MESSAGES UIDNEXT UNSEEN UIDVALIDITY RECENT SIZE))',
     rb'\* LIST .*"a b"\r\n\* STATUS "a b" \(MESSAGES 0 [^)]*SIZE 0[^)]*\)\r\n', OK),
    (b'LIST "" (% INBOX)', rb"INBOX", OK),
    (b'XLIST "" %', BAD),
    (b'LIST (SPECIAL-USE) "" "*"', OK),
    (b'LIST "" "*" RETURN (SPECIAL-USE)', OK),
    (b'CREATE Entwurf (USE (\\Drafts))', rb"TAG (OK|NO)"),
    (b'CREATE x (USE (\\Foo))', rb"TAG NO \[USEATTR\]"),
    (b"UNSUBSCRIBE top/sub", OK),
    (b"UNSUBSCRIBE nonesuch", rb"TAG"),
    # APPEND
    (append(b"nonesuch", PLAIN), rb"TAG NO \[TRYCREATE\]"),
    (append(b"INBOX", MAIL, b'(\\Seen $Label) "07-Feb-1994 21:52:25 -0800" '), rb"TAG OK \[APPENDUID \d+ 1\]"),
    (append(b"inbox", PLAIN, b'" 7-Feb-1994 21:52:25 -0800" '), rb"TAG OK \[APPENDUID \d+ 2\]"),
    (append(b"iNbOx", PLAIN, b"() "), rb"TAG OK \[APPENDUID \d+ 3\]"),
    (append(b"{5+}\r\nINBOX", PLAIN), rb"TAG OK \[APPENDUID \d+ 4\]"),
    (append(b'"INBOX"', PLAIN, b"(\\Recent) "), rb"TAG (OK|NO|BAD)"),
    (append(b"INBOX", PLAIN, b'"31-Foo-1994 21:52:25 -0800" '), BAD),
    (append(b"INBOX", b""), rb"TAG (NO|BAD)"),
    (b"APPEND INBOX (\\Seen)", BAD),
    (b"STATUS INBOX (MESSAGES RECENT UIDNEXT UIDVALIDITY UNSEEN HIGHESTMODSEQ SIZE)",
     rb"\* STATUS \"?INBOX\"? \(MESSAGES [45] RECENT [45] UIDNEXT \d UIDVALIDITY \d+ UNSEEN [34] HIGHESTMODSEQ \d+ SIZE \d+\)\r\nTAG OK"),
    (b"STATUS INBOX ()", BAD),
    (b"STATUS INBOX (NOSUCH)", BAD),
    (b"STATUS INBOX MESSAGES", BAD),
    # SELECT, EXAMINE
    (b"EXAMINE INBOX", rb"\* FLAGS \(.*\)\r\n", rb"PERMANENTFLAGS \(\)", rb"\* [45] EXISTS\r\n", rb"\* [45] RECENT\r\n", rb"\[UIDVALIDITY \d+\]",
     rb"\[UIDNEXT \d\]", rb"\[UNSEEN 2\]", rb"\[HIGHESTMODSEQ \d+\]", rb"TAG OK \[READ-ONLY\]"),
    (b"STORE 1 +FLAGS (\\Flagged)", NO),
    (b"EXPUNGE", NO),
    (b"FETCH 2 BODY[TEXT]", rb"nothing special", rb"!\\Seen", OK),
    (b"UID MOVE 1 top", NO),
    (b"UID COPY 1 top", OK),
    (b"CLOSE", OK),
    (b"FETCH 1 FLAGS", BAD),
    (b"SELECT inbox", rb"PERMANENTFLAGS \(.*\\\*\)", rb"TAG OK \[READ-WRITE\]"),
    (b"SELECT INBOX (CONDSTORE)", rb"\* OK \[CLOSED\]", rb"HIGHESTMODSEQ", OK),
    (b"SELECT INBOX (FOO)", BAD),
    (b"SELECT", BAD),
    (b"SELECT INBOX", OK),
    # FETCH
    (b"FETCH 1 FAST",
     rb"\* 1 FETCH \((?=.*FLAGS \()(?=.*INTERNALDATE \"0?[ 8]?\d?-Feb-1994 \d\d:52:25 [-+]\d{4}\")(?=.*RFC822.SIZE %d)" % len(MAIL),
     rb"!ENVELOPE", OK),
    (b"FETCH 1 ALL", rb"ENVELOPE \(", rb"FLAGS", rb"!BODY", OK),
    (b"FETCH 1 FULL", rb"ENVELOPE \(", rb" BODY \(\(", OK),
    (b"fetch 1 (flags uid)", rb"UID 1", OK),
    (b"FETCH 1 (ENVELOPE)", rb'ENVELOPE \("Mon, 7 Feb 1994 21:52:25 -0800" "=\?utf-8\?Q\?gr=C3=BC=C3=9Fe\?=" '
     rb'\(\("Terry \\"T\\" Gray" NIL "gray" "cac.example"\)\) \(\(.*\)\) \(\(.*\)\) '
     rb'\(\(NIL NIL "imap" "cac.example"\)\(NIL NIL "group" NIL\)\(NIL NIL "a" "x.example"\)\(NIL NIL "b" "x.example"\)\(NIL NIL NIL NIL\)\) '
     rb'\(\(NIL NIL "minutes" "example.org"\)\) NIL (NIL|"") "<B27397@cac.example>"\)', OK),
    (b"FETCH 2 ENVELOPE", rb'ENVELOPE \(NIL "plain" NIL NIL NIL NIL NIL NIL NIL NIL\)', OK),
    (b"FETCH 1 (BODYSTRUCTURE BODY.PEEK[HEADER.FIELDS (DATE \"Subject\")] UID)",
     rb'BODYSTRUCTURE \(\("text" "plain" \("charset" "utf-8"\) NIL NIL "8bit" 12 [01] NIL NIL NIL NIL\)'
     rb'\("message" "rfc822" NIL NIL NIL "7bit" \d+ \(NIL "inner" NIL NIL NIL NIL NIL NIL NIL NIL\) \("text" "html" NIL NIL NIL "7bit" 13 \d NIL NIL NIL NIL\) \d NIL NIL NIL NIL\)'
     rb'\("application" "pdf" \("name" "a b.pdf"\) NIL NIL "base64" 4 NIL \("attachment" \("filename" "a b.pdf"\)\) NIL NIL\) '
     rb'"mixed" \("boundary" "b1"\) NIL NIL NIL\)', rb'BODY\[HEADER.FIELDS \(DATE "?Subject"?\)\] \{\d+\}\r\nDate: .*\r\nSubject: .*\r\n\r\n', OK),
    (b"FETCH 1 BODY", rb'BODY \(\("text" "plain" \("charset" "utf-8"\) NIL NIL "8bit" 12 [01]\)', rb"!attachment", OK),
    (b"FETCH 1 RFC822", rb"RFC822 \{%d\}\r\n" % len(MAIL), OK),
    (b"FETCH 1 RFC822.HEADER", rb"RFC822.HEADER \{\d+\}\r\nDate:", OK),
    (b"FETCH 1 RFC822.TEXT", rb"RFC822.TEXT \{\d+\}\r\npreamble", OK),
    (b"FETCH 1 BODY.PEEK[1]", rb"BODY\[1\] (\{13\}|\{12\})\r\nHello W\xc3\xb6rld", OK),
    (b"FETCH 1 BODY.PEEK[1.MIME]",
     rb"BODY\[1.MIME\] \{\d+\}\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: 8bit\r\n\r\n", OK),
    (b"FETCH 1 BODY.PEEK[2]", rb"BODY\[2\] \{\d+\}\r\nSubject: inner", OK),
    (b"FETCH 1 BODY.PEEK[2.HEADER]", rb"\r\nSubject: inner\r\nContent-Type: text/html\r\n\r\n\)", OK),
    (b"FETCH 1 BODY.PEEK[2.TEXT]", rb"BODY\[2.TEXT\] \{13\}\r\n<b>inside</b>", OK),
    (b"FETCH 1 BODY.PEEK[2.1]", rb"BODY\[2.1\] \{13\}\r\n<b>inside</b>", OK),
    (b"FETCH 1 BODY.PEEK[2.MIME]", rb"message/rfc822", OK),
    (b"FETCH 1 BODY.PEEK[2.HEADER.FIELDS.NOT (SUBJECT)]", rb"\r\nContent-Type: text/html\r\n\r\n\)", OK),
    (b"FETCH 1 BODY.PEEK[9]", rb'BODY\[9\] (NIL|"")', OK),
    (b"FETCH 2 BODY.PEEK[1]", rb"BODY\[1\] \{17\}\r\nnothing special", OK),
    (b"FETCH 1 BODY.PEEK[HEADER.FIELDS (X-NONE)]", rb"\{2\}\r\n\r\n\)", OK),
    (b"FETCH 1 BODY.PEEK[]<0.0>", BAD),
    (b"FETCH 1 BODY.PEEK[]<0.5>", rb"BODY\[\]<0> \{5\}\r\nDate:", OK),
    (b"FETCH 1 BODY.PEEK[]<5.7>", rb"BODY\[\]<5> \{7\}\r\n Mon, 7", OK),
    (b"FETCH 1 BODY.PEEK[]<99999.10>", rb'BODY\[\]<99999> (""|\{0\}\r\n\))', OK),
    (b"FETCH 1 BODY.PEEK[TEXT]<0.4294967295>", rb"BODY\[TEXT\]<0> \{", OK),
    (b"FETCH 1 (BODY.PEEK[HEADER.FIELDS (From To Cc Bcc Subject Date Message-ID Priority X-Priority References Newsgroups In-Reply-To Content-Type Reply-To)] UID FLAGS RFC822.SIZE)",
     rb"BODY\[HEADER.FIELDS \(From", OK),
    (b"UID FETCH 1:* (FLAGS)", rb"\* 1 FETCH \((?=.*UID 1)", rb"\* 4 FETCH", OK),
    (b"UID FETCH 999 FLAGS", rb"!FETCH \(", OK),
    (b"UID FETCH 999:* FLAGS", rb"\* [45] FETCH", OK),
    (b"UID FETCH *:999 FLAGS", rb"\* [45] FETCH", OK),
    (b"UID FETCH * FLAGS", OK),
    (b"UID FETCH 1 (UID)", rb"\* 1 FETCH \(UID 1\)\r\n", OK),
    (b"FETCH 99 FLAGS", rb"TAG (BAD|NO)"),
    (b"FETCH 0 FLAGS", BAD),
    (b"FETCH 1 NOSUCH", BAD),
    (b"FETCH 1 (FLAGS", BAD),
    (b"FETCH 1 ()", BAD),
    (b"FETCH 4:2,1 (UID)", rb"\A\* 1 FETCH \(UID 1\)\r\n\* 2 .*\r\n\* 3 .*\r\n\* 4 .*\r\nTAG OK"),
    (b"FETCH 1,1,1 UID", rb"\A\* 1 FETCH \(UID 1\)\r\nTAG OK"),
    (b"FETCH 2 BODY[TEXT]", rb"FLAGS \([^)]*\\Seen", OK),
    (b"FETCH 2 BODY[TEXT]", rb"!FLAGS", OK),
    (b"FETCH 1 BODY.PEEK[1.HEADER]", rb"BODY\[1.HEADER\] (NIL|\"\")|TAG BAD"),
    (b"FETCH 1 BODY.PEEK[0]", BAD),
    (b"FETCH 1 BODY.PEEK[1.0]", BAD),
    (b"FETCH 1 BODY.PEEK[MIME]", BAD),
    # STORE
    (b"STORE 1 FLAGS (\\Answered)", rb"\* 1 FETCH \(.*FLAGS \((\\Recent )?\\Answered( \\Recent)?\)", OK),
    (b"STORE 1 +FLAGS \\Seen", rb"\\Seen", OK),
    (b"STORE 1 -FLAGS.SILENT (\\Seen \\Answered)", rb"!FLAGS", OK),
    (b"STORE 1 FLAGS ()", rb"FLAGS \((\\Recent)?\)", OK),
    (b"STORE 1 +FLAGS ($MDNSent $Forwarded NonJunk)", rb"\* FLAGS \(.*NonJunk", rb"FETCH .*\$MDNSent", OK),
    (b"STORE 1 +FLAGS (\\Foo)", rb"TAG (BAD|NO)"),
    (b"STORE 1 +FLAGS (nonjunk)", OK),
    (b"SEARCH KEYWORD NONJUNK", rb"\* SEARCH 1\r\n", OK),
    (b"STORE 1 +FLAGS (\\Recent)", rb"TAG"),
    (b"STORE 99 +FLAGS (\\Seen)", rb"TAG (BAD|NO)"),
    (b"UID STORE 999 +FLAGS (\\Seen)", OK),
    (b"UID STORE 2 +FLAGS (\\Flagged)", rb"\* 2 FETCH \((?=.*UID 2)(?=.*FLAGS)", OK),
    (b"STORE 1 FLAGS", BAD),
    (b"STORE 1 NOSUCH (\\Seen)", BAD),
    # SEARCH
    (b"SEARCH ALL", rb"\A\* SEARCH 1 2 3 4", OK),
    (b"SEARCH 1:2 FLAGGED", rb"\* SEARCH 2\r\n", OK),
    (b"SEARCH NOT FLAGGED 1:3", rb"\* SEARCH 1 3\r\n", OK),
    (b"SEARCH OR FLAGGED KEYWORD $Forwarded", rb"\* SEARCH 1 2\r\n", OK),
    (b"SEARCH (1 NOT (FLAGGED))", rb"\* SEARCH 1\r\n", OK),
    (b"SEARCH CHARSET UTF-8 SUBJECT {6+}\r\ngr\xc3\xbc\xc3\x9f", rb"\* SEARCH 1\r\n", OK),
    (b"SEARCH CHARSET utf-8 TEXT {6+}\r\nW\xc3\xb6rld", rb"\* SEARCH 1\r\n", OK),
    (b"SEARCH CHARSET KOI8-X SUBJECT x", rb"TAG NO \[BADCHARSET"),
    (b"SEARCH CHARSET US-ASCII SUBJECT plain 2:4", rb"\* SEARCH 2 3 4\r\n", OK),
    (b'SEARCH SUBJECT "" UID 1', rb"\* SEARCH 1\r\n", OK),
    (b'SEARCH HEADER Message-ID "B27397"', rb"\* SEARCH 1\r\n", OK),
    (b'SEARCH HEADER Cc ""', rb"\* SEARCH 1\r\n", OK),
    (b"SEARCH FROM gray TO imap CC minutes", rb"\* SEARCH 1\r\n", OK),
    (b"SEARCH BODY inside", rb"\* SEARCH 1\r\n", OK),
    (b"SEARCH BODY gray", rb"\* SEARCH\r\n", OK),
    (b"SEARCH SENTBEFORE 8-Feb-1994", rb"\* SEARCH 1\r\n", OK),
    (b"SEARCH SENTON 7-Feb-1994", rb"\* SEARCH 1\r\n", OK),
    (b'SEARCH SENTSINCE "07-Feb-1994" 1', rb"\* SEARCH 1\r\n", OK),
    (b"SEARCH SINCE 1-Feb-1994 BEFORE 10-Feb-1994", rb"\* SEARCH 1 2\r\n", OK),
    (b"SEARCH LARGER 500", rb"\* SEARCH 1\r\n", OK),
    (b"SEARCH SMALLER 500 2", rb"\* SEARCH 2\r\n", OK),
    (b"SEARCH UID 2:3", rb"\* SEARCH 2 3\r\n", OK),
    (b"UID SEARCH UID 4:999", rb"\* SEARCH 4( 5)?\r\n", OK),
    (b"UID SEARCH 1:*", rb"\* SEARCH 1 2 3 4", OK),
    (b"SEARCH NEW", OK),
    (b"SEARCH OLD", OK),
    (b"SEARCH RECENT", OK),
    (b"SEARCH UNDELETED UNANSWERED UNDRAFT UNFLAGGED UNKEYWORD nosuch 1", rb"\* SEARCH 1\r\n", OK),
    (b"SEARCH", BAD),
    (b"SEARCH NOSUCH", BAD),
    (b"SEARCH SINCE 32-Foo-1994", BAD),
    (b"SEARCH NOT", BAD),
    (b"SEARCH OR SEEN", BAD),
    (b"SEARCH ()", BAD),
    (b"SEARCH 99", rb"TAG"),
    (b"UID SEARCH UID 999:4294967295", rb"\* SEARCH\r\n", OK),
    (b"UID SEARCH UID 99", rb"\* SEARCH\r\n", OK),
    # ESEARCH (RFC 4731)
    (b"SEARCH RETURN () 1:3", rb'\* ESEARCH \(TAG "TAG"\) ALL 1:3\r\n', OK),
    (b"SEARCH RETURN (MIN MAX COUNT ALL) 1:3", rb"(?=.* MIN 1)(?=.* MAX 3)(?=.* COUNT 3)(?=.* ALL 1:3)", rb"!\* SEARCH", OK),
    (b"UID SEARCH RETURN (COUNT) UID 99", rb'\* ESEARCH \(TAG "TAG"\) UID COUNT 0\r\n', OK),
    (b"UID SEARCH RETURN (MIN) UID 99", rb'\* ESEARCH \(TAG "TAG"\) UID\r\n', OK),
    (b"SEARCH RETURN (NOSUCH) ALL", BAD),
    # SEARCHRES (RFC 5182), PARTIAL (RFC 9394), WITHIN (RFC 5032)
    (b"SEARCH RETURN (SAVE) 2:3", rb"\ATAG OK"),
    (b"FETCH $ UID", rb"\A\* 2 FETCH \(UID \d+\)\r\n\* 3 FETCH \(UID \d+\)\r\nTAG OK"),
    (b"UID SEARCH RETURN (SAVE COUNT) UID $ 3", rb'\A\* ESEARCH \(TAG "TAG"\) UID COUNT 1\r\nTAG OK'),
    (b"SEARCH OR $ 1", rb"\A\* SEARCH 1 3\r\nTAG OK"),
    (b"SEARCH RETURN (SAVE) UID 99", rb"\ATAG OK"),
    (b"FETCH $ FLAGS", rb"\ATAG OK"),
    (b"SEARCH RETURN (PARTIAL -1:-2) 1:3", rb"PARTIAL \(-1:-2 2:3\)\r\n", OK),
    (b"SEARCH RETURN (PARTIAL 4:5) 1:3", rb"PARTIAL \(4:5 NIL\)\r\n", OK),
    (b"SEARCH RETURN (ALL PARTIAL 4:5) 1:3", BAD),
    (b"UID FETCH 1:* UID (PARTIAL 1:1)", rb"\A\* 1 FETCH \(UID \d+\)\r\nTAG OK"),
    (b"SEARCH YOUNGER 60 1", rb"\* SEARCH\r\n", OK),  # its date is of 1994
    (b"SEARCH OLDER 86400 1", rb"\* SEARCH 1\r\n", OK),
    # SORT, THREAD (RFC 5256), ESORT (RFC 5267), SORT=DISPLAY (RFC 5957)
    (b"SORT (REVERSE SUBJECT DATE) UTF-8 1:3", rb"\A\* SORT 2 3 1\r\nTAG OK"),
    (b"SORT (DISPLAYFROM) US-ASCII 1:3", rb"\A\* SORT 2 3 1\r\nTAG OK"),
    (b"UID SORT RETURN (MIN COUNT) (SIZE) UTF-8 1:3", rb'\A\* ESEARCH \(TAG "TAG"\) UID MIN [23] COUNT 3\r\nTAG OK'),
    (b"SORT (SUBJECT) ALL", rb"TAG NO \[BADCHARSET"),
    (b"THREAD REFERENCES UTF-8 1:3", rb"\A\* THREAD \(1\)\(\(2\)\(3\)\)\r\nTAG OK"),
    (b"THREAD ORDEREDSUBJECT UTF-8 1:3", rb"\A\* THREAD \(1\)\(2 3\)\r\nTAG OK"),
    (b"THREAD JWZ UTF-8 ALL", BAD),
    # MULTISEARCH (RFC 7377)
    (b"ESEARCH IN (mailboxes (INBOX nonesuch)) 1:3", rb'\A\* ESEARCH \(TAG "TAG" MAILBOX "?INBOX"? UIDVALIDITY \d+\) UID ALL 1:3\r\nTAG OK'),
    (b"ESEARCH IN (mailboxes nonesuch) ALL", rb"\ATAG OK"),
    (b"ESEARCH IN (personal) RETURN (SAVE) ALL", BAD),
    # BINARY (RFC 3516), of FETCH
    (b"FETCH 1 (BINARY.PEEK[1] BINARY.SIZE[3] BINARY.PEEK[9])", rb"BINARY\[1\] \{12\}\r\nHello W\xc3\xb6rld BINARY.SIZE\[3\] 3 BINARY\[9\] NIL\)", OK),
    (b"FETCH 1 BINARY.PEEK[3]", rb"BINARY\[3\] ~\{3\}\r\n\0\0\0\)", OK),
    (b"FETCH 1 BINARY[1.HEADER]", BAD),
    # SAVEDATE (RFC 8514), OBJECTID (RFC 8474), PREVIEW (RFC 8970)
    (b"FETCH 1 (SAVEDATE EMAILID THREADID)", rb'SAVEDATE "[ \d]\d-\w{3}-20\d\d .* \+0000" EMAILID \(M\w+\) THREADID \(T\w+\)\)\r\n', OK),
    (b"SEARCH SAVEDSINCE 1-Jan-2020 1:2", rb"\* SEARCH 1 2\r\n", OK),
    (b"FETCH 2 PREVIEW", rb'\* 2 FETCH \(PREVIEW "nothing special"\)\r\n', OK),
    (b"FETCH 1 (PREVIEW (LAZY))", rb"PREVIEW \{12\}\r\nHello W\xc3\xb6rld\)", OK),
    (b"STATUS INBOX (MAILBOXID)", rb"\* STATUS \"?INBOX\"? \(MAILBOXID \(F[\w-]+\)\)\r\n", OK),
    (b"UID SEARCH RETURN (ALL) CHARSET UTF-8 ALL", rb"UID ALL 1:", OK),
    # CONDSTORE (RFC 7162)
    (b"FETCH 1 (MODSEQ)", rb"MODSEQ \(\d+\)", OK),
    (b"FETCH 1:* (FLAGS) (CHANGEDSINCE 1)", rb"MODSEQ \(", OK),
    (b"UID FETCH 1:* (FLAGS) (CHANGEDSINCE 99999999)", rb"!FETCH \(", OK),
    (b"STORE 1 (UNCHANGEDSINCE 1) +FLAGS (\\Draft)", rb"TAG OK \[MODIFIED 1\]"),
    (b"UID STORE 1:2 (UNCHANGEDSINCE 99999999) +FLAGS.SILENT (\\Draft)", rb"\* 1 FETCH \((?=.*UID 1)(?=.*MODSEQ)", rb"TAG OK",
     rb"!MODIFIED"),
    (b"STORE 1 (UNCHANGEDSINCE x) +FLAGS (\\Draft)", BAD),
    (b"STORE 1 (FOO 1) +FLAGS (\\Draft)", BAD),
    (b"SEARCH MODSEQ 1", rb"\* SEARCH [\d ]+ \(MODSEQ \d+\)\r\n", OK),
    (b'SEARCH MODSEQ "/flags/\\\\draft" all 1', rb"\* SEARCH [\d ]+ \(MODSEQ \d+\)\r\n", OK),
    (b"UID SEARCH RETURN (COUNT) MODSEQ 1", rb"COUNT \d MODSEQ \d+\r\n", OK),
    (b"STATUS INBOX (HIGHESTMODSEQ)", rb"HIGHESTMODSEQ \d+\)", OK),
    (b"ENABLE CONDSTORE", rb"\* ENABLED CONDSTORE\r\n|\* ENABLED\r\n", OK),
    (b"ENABLE NOSUCH", rb"\* ENABLED\r\n", OK),
    (b"ENABLE", BAD),
    # COPY, MOVE, EXPUNGE
    (b'COPY 1:2 "a b"', rb"TAG OK \[COPYUID \d+ 1:2 1:2\]"),
    (b"COPY 1 nonesuch", rb"TAG NO \[TRYCREATE\]"),
    (b"UID COPY 999 INBOX", rb"TAG OK", rb"!COPYUID"),
    (b"COPY 99 INBOX", rb"TAG (BAD|NO)"),
    (b"UID COPY 1 INBOX", rb"TAG OK \[COPYUID \d+ 1 \d\]"),
    (b"UID MOVE 4 top", rb"\* OK \[COPYUID \d+ 4 2\].*\r\n\* 4 EXPUNGE\r\n", OK),
    (b"MOVE 1 nonesuch", rb"TAG NO \[TRYCREATE\]"),
    (b"STORE 1,2 +FLAGS.SILENT (\\Deleted)", OK),
    (b"UID EXPUNGE 2", rb"\* 2 EXPUNGE\r\n", rb"!\* 1 EXPUNGE", OK),
    (b"UID EXPUNGE", BAD),
    (b"UID EXPUNGE 999", rb"!EXPUNGE\r", OK),
    (b"EXPUNGE", rb"\A\* 1 EXPUNGE\r\nTAG OK"),
    (b"EXPUNGE x", BAD),
    (b"UID NOSUCH 1", BAD),
    (b"UID", BAD),
    (b"CHECK", OK),
    (b"NOOP", OK),
    # QUOTA (RFC 9208)
    (b"GETQUOTAROOT INBOX", rb'\* QUOTAROOT "?INBOX"? ""\r\n', rb'\* QUOTA "" \(.*\)\r\n', OK),
    (b'GETQUOTA ""', rb'\* QUOTA "" \(', OK),
    (b"GETQUOTA nosuch", NO),
    (b"GETQUOTAROOT nonesuch", rb"TAG"),
    (b'SETQUOTA "" (STORAGE 1)', NO),
    (b"GETQUOTA", BAD),
    # IDLE, CLOSE, UNSELECT
    (b"IDLE\r\nDONE", rb"\A\+ .*\r\nTAG OK"),
    (b"IDLE x", BAD),
    (b"IDLE\r\nNOTDONE", rb"TAG BAD"),
    (b"STORE 1 +FLAGS (\\Deleted)", OK),
    (b"UNSELECT", rb"!EXPUNGE", OK),
    (b"STATUS INBOX (MESSAGES)", OK),
    (b"SELECT INBOX", OK),
    (b"CLOSE", rb"!EXPUNGE", OK),
    (b"SELECT INBOX", OK),
    (b"SEARCH DELETED", rb"\* SEARCH\r\n", OK),
    (b"SELECT nonesuch", NO),
    (b"FETCH 1 FLAGS", BAD),
    # RENAME of INBOX (section 6.3.5) moves the messages and leaves it empty
    (append(b"INBOX", PLAIN), OK),
    (b"RENAME INBOX old-mail", OK),
    (b"STATUS INBOX (MESSAGES)", rb"MESSAGES 0\)", OK),
    (b"STATUS old-mail (MESSAGES)", rb"MESSAGES [1-9]", OK),
    # form
    (b"", BAD),
    (b" NOOP", rb"BAD"),
    (b"SELECT (INBOX)", BAD),
    (b"STATUS (INBOX) (MESSAGES)", BAD),
    (b"EXAMINE INBOX INBOX", BAD),
    (b'SELECT "INBOX', BAD),
    (b"SELECT NIL", NO),
    (b"SELECT INBOX\0", rb"BAD"),
    (b"sElEcT INBOX", OK),
    (b"LOGOUT", rb"\A\* BYE .*\r\nTAG OK"),
]


class Rfc(mt.ClusterCase):
    FLAGS = ["--proxies", 1, "--backends", 1, "--users", 6]

    def connect(self, at):
        wire = Wire(self.cluster.at(at, "imap"))
        self.addCleanup(wire.close)
        self.assertRegex(wire.greeting, rb"\* OK ")
        return wire

    def check(self, wire, rows):
        wrong = []
        for command, *patterns in rows:
            wire.n += 1
            tag = b"t%d" % wire.n
            wire.send(tag + b" " + command + b"\r\n")
            answer = b""
            while not re.match(tag + b" (OK|NO|BAD)|\\* BAD", answer.split(b"\r\n")[-2] if answer else b""):
                answer += wire.response()
            answer = answer.replace(tag + b" ", b"TAG ").replace(b'"%s"' % tag, b'"TAG"')
            if answer.startswith(b"* BAD"):
                answer = b"TAG" + answer[1:]
            for p in patterns:
                if bool(re.search(p.lstrip(b"!"), answer)) == p.startswith(b"!"):
                    wrong.append(f"{command[:90]!r}\n    want {p!r}\n    got  {answer[:900]!r}")
                    break
        self.assertEqual(wrong, [], "\n" + "\n".join(wrong))

    def test_before_login(self):
        for at in ("p1", "b1"):
            with self.subTest(at):
                self.check(self.connect(at), BEFORE)

    def test_after_login(self):
        for i, (at, login) in enumerate([("p1", b"LOGIN {21+}\r\nuser%04d@example.test {8+}\r\npass%04d"), ("b1", b'LOGIN "user%04d@example.test" "pass%04d"')], 1):
            with self.subTest(at):
                self.cluster.ctl("b1", "account", "set", f"user{i:04}@example.test", "--quota", "1G", "--count", "1000")
                wire = self.connect(at)
                self.check(wire, [(login % (i, i), rb"TAG OK \[CAPABILITY (?=.*IMAP4rev1)[^\]]*\]")])
                self.check(wire, TABLE)

    def test_synchronising_literals(self):
        wire = self.connect("p1")
        wire.send(b"a LOGIN {21}\r\n")
        self.assertRegex(wire.response(), rb"\A\+ ")
        wire.send(b"user0003@example.test {8}\r\n")
        self.assertRegex(wire.response(), rb"\A\+ ")
        wire.send(b"pass0003\r\n")
        self.assertRegex(wire.answer(b"a")[1], rb"OK")
        wire.send(b"b APPEND INBOX {%d}\r\n" % len(MAIL))
        self.assertRegex(wire.response(), rb"\A\+ ")
        wire.send(MAIL + b"\r\n")
        self.assertRegex(wire.answer(b"b")[1], rb"OK \[APPENDUID")
        wire.send(b"c APPEND nonesuch {%d}\r\n" % len(MAIL))  # refused before it is sent
        self.assertRegex(wire.answer(b"c")[1], rb"NO \[TRYCREATE\]")
        wire.send(b"d APPEND INBOX {99999999999}\r\n")
        self.assertRegex(wire.answer(b"d")[1], rb"(NO|BAD)")
        self.assertRegex(wire.ask(b"NOOP")[1], rb"OK")
        wire.ask(b"SELECT INBOX")
        untagged, _ = wire.ask(b"FETCH 1 (BODY[] RFC822.SIZE)")
        items = fetch_items(untagged[0])[1]
        self.assertEqual(items[b"BODY[]"], MAIL)
        self.assertEqual(int(items[b"RFC822.SIZE"]), len(MAIL))

    def test_what_enables_condstore_tells_the_highest_modseq_once(self):
        for command in (b"ENABLE CONDSTORE", b"FETCH 1 (MODSEQ)", b"FETCH 1 FLAGS (CHANGEDSINCE 1)", b"SEARCH MODSEQ 1",
                        b"STORE 1 (UNCHANGEDSINCE 1) FLAGS ()", b"STATUS INBOX (HIGHESTMODSEQ)"):
            wire = self.connect("b1")
            wire.ask(b"LOGIN user0005@example.test pass0005")
            wire.ask(append(b"INBOX", PLAIN))
            wire.ask(b"SELECT INBOX")
            self.assertRegex(b"".join(wire.ask(command)[0]), rb"\* OK \[HIGHESTMODSEQ \d+\]", command)
            self.assertNotIn(b"[HIGHESTMODSEQ", b"".join(wire.ask(command)[0]), command)

    def test_pipelined_commands_are_answered_in_order(self):
        wire = self.connect("p1")
        wire.send(b"a LOGIN user0004@example.test pass0004\r\nb SELECT INBOX\r\nc " + append(b"INBOX", PLAIN) + b"\r\nd NOOP\r\n"
                  b"e FETCH 1 BODY.PEEK[TEXT]\r\nf IDLE\r\nDONE\r\ng STORE 1 +FLAGS (\\Deleted)\r\nh CLOSE\r\ni LOGOUT\r\n")
        for tag in b"abcdefghi":
            untagged, answer = wire.answer(b"%c" % tag)
            self.assertRegex(answer, rb"\AOK", (tag, untagged))


if __name__ == "__main__":
    import unittest
    unittest.main()
