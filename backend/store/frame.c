/*
 * The dictionary has what mail is full of, and tables of how often octets, lengths and distances are met in it, so that a small frame
 * neither spells the usual headers nor brings tables of its own. A frame names its dictionary, or none: both kinds are read alike.
 */
#include "backend/store/frame.h"

#include <stdlib.h>
#include <zstd.h>

#include "common/base/error.h"
#include "common/base/mem.h"

#define LEVEL 1
/* Tables made for a longer frame fit it better, and a dictionary costs time there. */
#define DICT_RAW_MOST 8192

/*
 * First the tables, then the text; what is most often in mail stands at the end. Stored frames need it as it is: it never changes.
 * Another one would be another array with a number of its own in its tables; this one's is 40001 (docs/decisions/disk.md).
 */
/* clang-format off */
static const char dict[] =
	"\067\244\060\354\101\234\000\000\100\020\260\332\066\007\060\014\303\060\014\303"
	"\060\014\303\060\100\320\367\047\122\312\330\042\127\354\313\356\315\045\244\011"
	"\250\243\241\252\157\177\036\037\375\231\216\170\373\177\373\143\361\152\146\146"
	"\146\273\127\232\304\212\017\376\005\270\053\160\011\263\000\030\024\014\214\212"
	"\352\243\131\261\032\000\004\240\100\034\061\026\025\015\346\041\131\060\226\205"
	"\071\022\044\051\245\214\061\206\020\002\010\030\062\062\123\000\000\000\000\000"
	"\044\355\104\304\202\062\171\074\036\012\205\222\040\013\242\040\111\122\046\125"
	"\011\000\000\000\001\000\000\000\004\000\000\000\010\000\000\000"
	"<?xml version=\"1.0\" encoding=\"UTF-8\"?>\r\n"
	"<!DOCTYPE html PUBLIC \"-//W3C//DTD XHTML 1.0 Transitional//EN\" "
	"\"http://www.w3.org/TR/xhtml1/DTD/xhtml1-transitional.dtd\">\r\n"
	"<html xmlns=\"http://www.w3.org/1999/xhtml\"><head><meta http-equiv=\"Content-Type\" "
	"content=\"text/html; charset=utf-8\"><meta name=\"viewport\" "
	"content=\"width=device-width, initial-scale=1.0\"><title></title><style "
	"type=\"text/css\">\r\n"
	"</style></head><body bgcolor=\"#ffffff\" style=\"margin: 0; padding: 0;\"><table "
	"width=\"100%\" border=\"0\" cellspacing=\"0\" cellpadding=\"0\" role=\"presentation\" "
	"align=\"center\" style=\"max-width: 600px;\"><tr><td align=\"center\" valign=\"top\" "
	"style=\"font-family: Arial, Helvetica, sans-serif; font-size: 14px; line-height: 20px; "
	"color: #333333; text-decoration: none; text-align: left; background-color: "
	"#ffffff;\"><a href=\"https://www.\" target=\"_blank\"><img src=\"https://\" width=\"1\" "
	"height=\"1\" alt=\"\" border=\"0\" style=\"display: "
	"block;\"></a></td></tr></table><p><font face=\"Arial, Helvetica, sans-serif\" "
	"size=\"2\" color=\"#000000\"><b></b></font></p><br><span></span>\r\n"
	"<div dir=\"ltr\">&nbsp;<br></div><blockquote "
	"class=\"gmail_quote\"></blockquote></body></html>\r\n"
	"BEGIN:VCALENDAR\r\n"
	"Content-Type: text/calendar; charset=\"utf-8\"; method=REQUEST\r\n"
	"Content-Type: application/pdf; name=\"\r\n"
	"Content-Type: application/octet-stream; name=\"\r\n"
	"Content-Disposition: attachment; filename=\"\r\n"
	"Content-Type: image/png; name=\"\r\n"
	"Content-ID: <\r\n"
	"Content-Disposition: inline\r\n"
	"Content-Type: message/delivery-status\r\n"
	"Content-Type: multipart/related; boundary=\"\r\n"
	"Content-Type: multipart/mixed; boundary=\"\r\n"
	"Content-Type: multipart/alternative;\r\n"
	"\tboundary=\"----=_NextPart_000_\r\n"
	"This is a multi-part message in MIME format.\r\n"
	"------=_NextPart_\r\n"
	"Content-Type: text/html;\r\n"
	"\tcharset=\"iso-8859-1\"\r\n"
	"Content-Transfer-Encoding: base64\r\n"
	"Content-Transfer-Encoding: quoted-printable\r\n"
	"Content-Type: text/plain; charset=us-ascii; format=flowed\r\n"
	"Mon, Tue, Wed, Thu, Fri, Sat, Sun,  Jan  Feb  Mar  Apr  May  Jun  Jul  Aug  Sep  Oct  "
	"Nov  Dec +0100 (CET) +0200 -0500 -0700 (PDT) GMT\r\n"
	"Return-Path: <\r\n"
	"Delivered-To: \r\n"
	"Authentication-Results: mx.; dkim=pass header.d=; spf=pass smtp.mailfrom=; dmarc=pass "
	"(p=none) header.from=\r\n"
	"ARC-Seal: i=1; a=rsa-sha256; t=; cv=none; d=; s=; b=\r\n"
	"DKIM-Signature: v=1; a=rsa-sha256; c=relaxed/relaxed; d=; s=; t=; "
	"h=from:to:subject:date:message-id:mime-version:content-type; bh=; b=\r\n"
	"Received-SPF: pass\r\n"
	"X-Spam-Status: No, score=-\r\n"
	"X-Google-Smtp-Source: \r\n"
	"Received: from localhost (localhost [127.0.0.1])\r\n"
	"\tby mail. (Postfix) with ESMTPS id \r\n"
	"\tfor <>; \r\n"
	"Received: from [192.168.1.] by smtp. with SMTP id ; \r\n"
	"\t(version=TLSv1.3 cipher=TLS_AES_256_GCM_SHA384 bits=256/256)\r\n"
	"\t(using TLSv1.2 with cipher ECDHE-RSA-AES256-GCM-SHA384 (256/256 bits))\r\n"
	"List-Unsubscribe-Post: List-Unsubscribe=One-Click\r\n"
	"List-Unsubscribe: <https://\r\n"
	"List-Post: <mailto:\r\n"
	"List-Archive: <http://\r\n"
	"List-Help: <mailto:?subject=help>\r\n"
	"List-Id: <\r\n"
	"Precedence: bulk\r\n"
	"Sender: \r\n"
	"Errors-To: \r\n"
	"X-Priority: 3\r\n"
	"X-MSMail-Priority: Normal\r\n"
	"X-Mailer: Microsoft Outlook\r\n"
	"X-MimeOLE: Produced By Microsoft MimeOLE\r\n"
	"User-Agent: Mozilla/5.0 (X11; Linux x86_64; rv:) Gecko/20100101 Thunderbird/\r\n"
	"Auto-Submitted: auto-generated\r\n"
	"Feedback-ID: \r\n"
	"Organization: \r\n"
	"References: <\r\n"
	"In-Reply-To: <\r\n"
	" the and that for you with this have not are from your will which was can they about "
	"what there would when been more some other people please contact information\r\n"
	"-----Original Message-----\r\n"
	"On , wrote:\r\n"
	"> > \r\n"
	"\r\n"
	"-- \r\n"
	"https://lists. mailing list\r\n"
	"Best regards,\r\n"
	"Date: \r\n"
	"From: \"\" <\r\n"
	"To: undisclosed-recipients:;\r\n"
	"Cc: \r\n"
	"Reply-To: \r\n"
	"Subject: Re: Fwd: [\r\n"
	"Subject: =?utf-8?Q?=\r\n"
	"Subject: =?UTF-8?B?\r\n"
	"Message-ID: <\r\n"
	"Message-Id: <\r\n"
	"MIME-Version: 1.0\r\n"
	"Content-Type: text/plain; charset=utf-8\r\n"
	"Content-Type: text/plain; charset=\"UTF-8\"\r\n"
	"Content-Transfer-Encoding: 8bit\r\n"
	"Content-Transfer-Encoding: 7bit\r\n"
	"\r\n";
/* clang-format on */
#define DICT_LEN (sizeof(dict) - 1)

struct frame_press {
	ZSTD_CCtx *zstd;
	ZSTD_CDict *dict;
};

struct frame_press *frame_press_new(void)
{
	struct frame_press *p = xcalloc(1, sizeof(*p));

	p->zstd = ZSTD_createCCtx();
	p->dict = ZSTD_createCDict(dict, DICT_LEN, LEVEL);
	require(p->zstd && p->dict);
	return p;
}

void frame_press_free(struct frame_press **press)
{
	if (!*press)
		return;
	ZSTD_freeCCtx((*press)->zstd);
	ZSTD_freeCDict((*press)->dict);
	free(*press);
	*press = NULL;
}

size_t frame_bound(size_t raw_len)
{
	return ZSTD_compressBound(raw_len);
}

int frame_pack(struct frame_press *p, struct slice raw, char *room, size_t *len_out)
{
	size_t size = frame_bound(raw.len);
	size_t n = raw.len <= DICT_RAW_MOST
			   ? ZSTD_compress_usingCDict(p->zstd, room, size, raw.p, raw.len, p->dict)
			   : ZSTD_compressCCtx(p->zstd, room, size, raw.p, raw.len, LEVEL);

	*len_out = n;
	return ZSTD_isError(n) ? ERR_NOT_NOW : 0;
}

struct frame_opener {
	ZSTD_DCtx *zstd;
	ZSTD_DDict *dict;
};

struct frame_opener *frame_opener_new(void)
{
	struct frame_opener *o = xcalloc(1, sizeof(*o));

	o->zstd = ZSTD_createDCtx();
	o->dict = ZSTD_createDDict(dict, DICT_LEN);
	if (!o->zstd || !o->dict)
		frame_opener_free(&o);
	return o;
}

void frame_opener_free(struct frame_opener **opener)
{
	if (!*opener)
		return;
	ZSTD_freeDCtx((*opener)->zstd);
	ZSTD_freeDDict((*opener)->dict);
	free(*opener);
	*opener = NULL;
}

int frame_open(struct frame_opener *o, struct slice frame, char *room, size_t size)
{
	size_t n = ZSTD_decompress_usingDDict(o->zstd, room, size, frame.p, frame.len, o->dict);

	return ZSTD_isError(n) || n != size ? ERR_CORRUPT : 0;
}

int frame_length(struct slice stream, size_t *len_out)
{
	*len_out = ZSTD_findFrameCompressedSize(stream.p, stream.len);
	return ZSTD_isError(*len_out) ? ERR_CORRUPT : 0;
}
