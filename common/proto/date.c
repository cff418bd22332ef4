/*
 * Days are counted by the civil calendar's 400-year cycle. Header dates are read word by word: whatever is no
 * number, month, time or zone (the day's name above all) is passed over.
 */
#include "common/proto/date.h"

#include "common/base/num.h"

#define DAY_S 86400

static const char months[12][4] = {
	"Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"};
static const char weekdays[7][4] = {"Thu", "Fri", "Sat", "Sun", "Mon", "Tue", "Wed"};

struct parts {
	int year, month, day; /* -1: not seen */
	int hour, minute, second;
	int zone_min;
	bool has_time, has_zone;
};

int64_t date_days(int year, int month, int day)
{
	int64_t y = year - (month <= 2 ? 1 : 0);
	int64_t era = (y >= 0 ? y : y - 399) / 400;
	int64_t in_era = y - era * 400;
	int64_t in_year = (153 * (month + (month > 2 ? -3 : 9)) + 2) / 5 + day - 1;

	return era * 146097 + in_era * 365 + in_era / 4 - in_era / 100 + in_year - 719468;
}

static void civil(int64_t days, int *year, int *month, int *day)
{
	int64_t z = days + 719468, era = (z >= 0 ? z : z - 146096) / 146097, in_era = z - era * 146097;
	int64_t y = (in_era - in_era / 1460 + in_era / 36524 - in_era / 146096) / 365;
	int64_t in_year = in_era - (365 * y + y / 4 - y / 100), m = (5 * in_year + 2) / 153;

	*day = (int)(in_year - (153 * m + 2) / 5 + 1);
	*month = (int)(m < 10 ? m + 3 : m - 9);
	*year = (int)(y + era * 400 + (*month <= 2 ? 1 : 0));
}

static int days_in_month(int year, int month)
{
	static const int days[12] = {31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
	bool is_leap = (year % 4 == 0 && year % 100 != 0) || year % 400 == 0;

	return days[month - 1] + (month == 2 && is_leap ? 1 : 0);
}

static int month_number(struct slice s)
{
	for (int i = 0; i < 12; i++)
		if (s.len >= 3 && slice_is_str_nocase(slice_sub(s, 0, 3), months[i]))
			return i + 1;
	return -1;
}

static int small_number(struct slice s, uint32_t most)
{
	uint32_t n;

	return num_parse_u32(s, &n) == 0 && n <= most ? (int)n : -1;
}

static int finish(const struct parts *p, struct date *date_out)
{
	int64_t days;

	if (p->day < 1 || p->month < 1 || p->year < 0 || p->day > days_in_month(p->year, p->month))
		return ERR_SYNTAX;
	days = date_days(p->year, p->month, p->day);
	date_out->local_day = (int32_t)days;
	date_out->zone_min = p->zone_min;
	date_out->unix_s =
		days * DAY_S + p->hour * 3600 + p->minute * 60 + p->second - (int64_t)p->zone_min * 60;
	return 0;
}

/* hh:mm[:ss], seconds up to a leap second's 60. */
static bool read_time(struct slice s, struct parts *p)
{
	ptrdiff_t first = slice_find(s, ':'), second;
	struct slice rest;

	if (first <= 0)
		return false;
	rest = slice_from(s, (size_t)first + 1);
	second = slice_find(rest, ':');
	p->hour = small_number(slice_sub(s, 0, (size_t)first), 23);
	p->minute = small_number(slice_sub(rest, 0, second < 0 ? rest.len : (size_t)second), 59);
	p->second = second < 0 ? 0 : small_number(slice_from(rest, (size_t)second + 1), 60);
	return p->hour >= 0 && p->minute >= 0 && p->second >= 0;
}

static bool read_offset(struct slice s, int *zone_out)
{
	int hours, minutes;

	if (s.len != 5 || (s.p[0] != '+' && s.p[0] != '-'))
		return false;
	hours = small_number(slice_sub(s, 1, 2), 23);
	minutes = small_number(slice_sub(s, 3, 2), 59);
	if (hours < 0 || minutes < 0)
		return false;
	*zone_out = (hours * 60 + minutes) * (s.p[0] == '-' ? -1 : 1);
	return true;
}

/* Names of RFC 5322 section 4.3; the military letters say nothing certain and count as UTC. */
static bool read_zone(struct slice s, int *zone_out)
{
	static const struct {
		const char *name;
		int hours;
	} rows[] = {{"UT", 0}, {"UTC", 0}, {"GMT", 0}, {"Z", 0}, {"EST", -5}, {"EDT", -4}, {"CST", -6},
		{"CDT", -5}, {"MST", -7}, {"MDT", -6}, {"PST", -8}, {"PDT", -7}};

	if (read_offset(s, zone_out))
		return true;
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		if (slice_is_str_nocase(s, rows[i].name)) {
			*zone_out = rows[i].hours * 60;
			return true;
		}
	}
	return false;
}

/* Two and three digits as RFC 5322 section 4.3 says. */
static int full_year(int n, size_t digits)
{
	if (digits >= 4 || n < 0)
		return n;
	if (digits == 3)
		return n + 1900;
	return n < 50 ? n + 2000 : n + 1900;
}

/* The next word: up to a blank, a comma or a comment; "1-Feb-94" is three. False at the end. */
static bool next_word(struct slice *rest, struct slice *word_out)
{
	size_t at = 0, depth = 0, end;

	for (; at < rest->len; at++) {
		char c = rest->p[at];

		if (c == '(')
			depth++;
		else if (depth && c == ')')
			depth--;
		else if (!depth && !strchr(" \t\r\n,", c))
			break;
	}
	for (end = at; end < rest->len && (!strchr(" \t\r\n,(", rest->p[end]) || !rest->p[end]); end++)
		if (rest->p[end] == '-' && end > at)
			break;
	*word_out = slice_sub(*rest, at, end - at);
	if (end < rest->len && rest->p[end] == '-' && end > at)
		end++;
	*rest = slice_from(*rest, end);
	return word_out->len > 0;
}

static void take_word(struct slice word, struct parts *p)
{
	bool is_number = word.p[0] >= '0' && word.p[0] <= '9';

	if (is_number && slice_find(word, ':') > 0) {
		if (!p->has_time)
			p->has_time = read_time(word, p);
	} else if (is_number && p->day < 0 && word.len <= 2) {
		p->day = small_number(word, 31);
	} else if (is_number && p->year < 0 && word.len >= 2 && word.len <= 4) {
		p->year = full_year(small_number(word, 9999), word.len);
	} else if (p->month < 0 && month_number(word) > 0) {
		p->month = month_number(word);
	} else if (p->has_time && !p->has_zone) {
		p->has_zone = read_zone(word, &p->zone_min);
	}
}

int date_parse_rfc5322(struct slice text, struct date *date_out)
{
	struct parts p = {.year = -1, .month = -1, .day = -1};
	struct slice word, rest = slice_sub(text, 0, 256);

	while (next_word(&rest, &word))
		take_word(word, &p);
	if (!p.has_time)
		p.hour = p.minute = p.second = 0;
	return finish(&p, date_out);
}

/* d-Mon-yyyy or dd-Mon-yyyy. */
static int read_dashed(struct slice s, struct parts *p)
{
	ptrdiff_t dash = slice_find(s, '-');

	if (dash < 1 || dash > 2 || s.len != (size_t)dash + 9 || s.p[dash + 4] != '-')
		return ERR_SYNTAX;
	p->day = small_number(slice_sub(s, 0, (size_t)dash), 31);
	p->month = month_number(slice_sub(s, (size_t)dash + 1, 3));
	p->year = small_number(slice_sub(s, (size_t)dash + 5, 4), 9999);
	return p->day < 1 || p->month < 1 || p->year < 0 ? ERR_SYNTAX : 0;
}

int date_parse_internal(struct slice text, struct date *date_out)
{
	struct parts p = {0};

	if (text.len && text.p[0] == ' ')
		text = slice_from(text, 1);
	if (text.len != 25 && text.len != 26)
		return ERR_SYNTAX;
	if (read_dashed(slice_sub(text, 0, text.len - 15), &p) || text.p[text.len - 15] != ' ' ||
		text.p[text.len - 6] != ' ' || !read_time(slice_sub(text, text.len - 14, 8), &p) ||
		!read_offset(slice_from(text, text.len - 5), &p.zone_min))
		return ERR_SYNTAX;
	return finish(&p, date_out);
}

int date_parse_search(struct slice text, int32_t *day_out)
{
	struct parts p = {0};
	struct date date;

	if (read_dashed(text, &p) || finish(&p, &date))
		return ERR_SYNTAX;
	*day_out = date.local_day;
	return 0;
}

struct clock_face {
	int year, month, day, hour, minute, second, weekday;
	char sign;
	int zone_hour, zone_minute;
};

static struct clock_face face(int64_t unix_s, int32_t zone_min)
{
	int64_t local = unix_s + (int64_t)zone_min * 60;
	int64_t days = local >= 0 ? local / DAY_S : -((-local + DAY_S - 1) / DAY_S);
	int64_t rest = local - days * DAY_S;
	int zone = zone_min < 0 ? -zone_min : zone_min;
	struct clock_face f = {
		.hour = (int)(rest / 3600), .minute = (int)(rest / 60 % 60), .second = (int)(rest % 60)};

	civil(days, &f.year, &f.month, &f.day);
	f.weekday = (int)(((days % 7) + 7) % 7);
	f.sign = zone_min < 0 ? '-' : '+';
	f.zone_hour = zone / 60;
	f.zone_minute = zone % 60;
	return f;
}

void date_write_rfc5322(int64_t unix_s, int32_t zone_min, struct buf *out)
{
	struct clock_face f = face(unix_s, zone_min);

	buf_printf(out, "%s, %d %s %04d %02d:%02d:%02d %c%02d%02d", weekdays[f.weekday], f.day,
		months[f.month - 1], f.year, f.hour, f.minute, f.second, f.sign, f.zone_hour, f.zone_minute);
}

void date_write_internal(int64_t unix_s, int32_t zone_min, struct buf *out)
{
	struct clock_face f = face(unix_s, zone_min);

	buf_printf(out, "%2d-%s-%04d %02d:%02d:%02d %c%02d%02d", f.day, months[f.month - 1], f.year, f.hour,
		f.minute, f.second, f.sign, f.zone_hour, f.zone_minute);
}
