/* A list of families sorted by name, each with its labelled series; one lock guards the lists, values are atomic. */
#include "common/base/metrics.h"

#include <pthread.h>
#include <stdlib.h>

#include "common/base/list.h"
#include "common/base/mem.h"

enum kind {
	KIND_COUNTER,
	KIND_GAUGE,
	KIND_HISTOGRAM
};

static const char *const kind_names[] = {"counter", "gauge", "histogram"};
static const uint64_t bounds_us[] = {100, 250, 500, 1000, 2500, 5000, 10000, 25000, 50000, 100000, 250000,
	500000, 1000000, 2500000, 5000000, 10000000, 30000000, 60000000};

struct histogram {
	_Atomic uint64_t counts[ARRAY_LEN(bounds_us) + 1];
	_Atomic uint64_t sum_us;
};

struct series {
	struct list link;
	char *labels; /* "" for none */
	struct metric metric;
	struct histogram *histogram;
};

struct family {
	struct list link;
	char *name;
	char *help;
	enum kind kind;
	struct list series;
};

struct collector {
	struct list link;
	metrics_collect_fn *fn;
	void *arg;
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct list families = {&families, &families};
static struct list collectors = {&collectors, &collectors};

static struct family *find_family(const char *name, enum kind kind, const char *help)
{
	struct list *before = &families;
	struct family *f;

	list_for_each (at, &families) {
		int order;

		f = container_of(at, struct family, link);
		order = strcmp(f->name, name);
		if (order == 0) {
			require(f->kind == kind);
			return f;
		}
		if (order > 0) {
			before = at;
			break;
		}
	}
	f = xcalloc(1, sizeof(*f));
	f->name = xstrdup(name);
	f->help = xstrdup(help);
	f->kind = kind;
	list_init(&f->series);
	list_add_last(before, &f->link);
	return f;
}

static struct series *find_series(const char *name, const char *labels, enum kind kind, const char *help)
{
	struct family *f;
	struct series *s;

	pthread_mutex_lock(&lock);
	f = find_family(name, kind, help);
	list_for_each (at, &f->series) {
		s = container_of(at, struct series, link);
		if (strcmp(s->labels, labels ? labels : "") == 0) {
			pthread_mutex_unlock(&lock);
			return s;
		}
	}
	s = xcalloc(1, sizeof(*s));
	s->labels = xstrdup(labels ? labels : "");
	if (kind == KIND_HISTOGRAM)
		s->histogram = xcalloc(1, sizeof(*s->histogram));
	list_add_last(&f->series, &s->link);
	pthread_mutex_unlock(&lock);
	return s;
}

struct metric *metrics_counter(const char *name, const char *labels, const char *help)
{
	return &find_series(name, labels, KIND_COUNTER, help)->metric;
}

struct metric *metrics_gauge(const char *name, const char *labels, const char *help)
{
	return &find_series(name, labels, KIND_GAUGE, help)->metric;
}

struct histogram *metrics_histogram(const char *name, const char *labels, const char *help)
{
	return find_series(name, labels, KIND_HISTOGRAM, help)->histogram;
}

void metric_raise(struct metric *m, int64_t n)
{
	int64_t seen = metric_get(m);

	while (seen < n && !atomic_compare_exchange_weak(&m->value, &seen, n))
		;
}

void histogram_observe_us(struct histogram *h, uint64_t microseconds)
{
	size_t i = 0;

	while (i < ARRAY_LEN(bounds_us) && microseconds > bounds_us[i])
		i++;
	atomic_fetch_add_explicit(&h->counts[i], 1, memory_order_relaxed);
	atomic_fetch_add_explicit(&h->sum_us, microseconds, memory_order_relaxed);
}

void metrics_on_collect(metrics_collect_fn *fn, void *arg)
{
	struct collector *c = xcalloc(1, sizeof(*c));

	c->fn = fn;
	c->arg = arg;
	pthread_mutex_lock(&lock);
	list_add_last(&collectors, &c->link);
	pthread_mutex_unlock(&lock);
}

void metrics_off_collect(metrics_collect_fn *fn, void *arg)
{
	pthread_mutex_lock(&lock);
	list_for_each_safe (at, &collectors) {
		struct collector *c = container_of(at, struct collector, link);

		if (c->fn == fn && c->arg == arg) {
			list_remove(at);
			free(c);
		}
	}
	pthread_mutex_unlock(&lock);
}

/* Collectors register and set metrics, so they run without the lock, on a copy of the list. */
static void collect(void)
{
	struct collector copy[64];
	size_t n = 0;

	pthread_mutex_lock(&lock);
	list_for_each (at, &collectors) {
		if (n < ARRAY_LEN(copy))
			copy[n++] = *container_of(at, struct collector, link);
	}
	pthread_mutex_unlock(&lock);
	for (size_t i = 0; i < n; i++)
		copy[i].fn(copy[i].arg);
}

static void render_histogram(struct buf *out, const char *name, const struct series *s)
{
	const char *comma = *s->labels ? "," : "";
	uint64_t sum = 0;

	for (size_t i = 0; i <= ARRAY_LEN(bounds_us); i++) {
		sum += s->histogram->counts[i];
		if (i < ARRAY_LEN(bounds_us))
			buf_printf(out, "%s_bucket{%s%sle=\"%g\"} %llu\n", name, s->labels, comma,
				(double)bounds_us[i] / 1e6, (unsigned long long)sum);
		else
			buf_printf(out, "%s_bucket{%s%sle=\"+Inf\"} %llu\n", name, s->labels, comma,
				(unsigned long long)sum);
	}
	comma = *s->labels ? "{" : "";
	buf_printf(out, "%s_count%s%s%s %llu\n", name, comma, s->labels, *s->labels ? "}" : "",
		(unsigned long long)sum);
	buf_printf(out, "%s_sum%s%s%s %.6f\n", name, comma, s->labels, *s->labels ? "}" : "",
		(double)s->histogram->sum_us / 1e6);
}

static void render_value(struct buf *out, const struct family *f, struct series *s)
{
	buf_printf(out, "%s%s%s%s%s %lld\n", f->name, f->kind == KIND_COUNTER ? "_total" : "",
		*s->labels ? "{" : "", s->labels, *s->labels ? "}" : "", (long long)metric_get(&s->metric));
}

void metrics_render(struct buf *out)
{
	collect();
	pthread_mutex_lock(&lock);
	list_for_each (at, &families) {
		struct family *f = container_of(at, struct family, link);

		buf_printf(
			out, "# TYPE %s %s\n# HELP %s %s\n", f->name, kind_names[f->kind], f->name, f->help);
		list_for_each (at_series, &f->series) {
			struct series *s = container_of(at_series, struct series, link);

			if (f->kind == KIND_HISTOGRAM)
				render_histogram(out, f->name, s);
			else
				render_value(out, f, s);
		}
	}
	pthread_mutex_unlock(&lock);
	buf_add_str(out, "# EOF\n");
}

void metrics_visit(metrics_visit_fn *fn, void *arg)
{
	collect();
	pthread_mutex_lock(&lock);
	list_for_each (at, &families) {
		struct family *f = container_of(at, struct family, link);
		struct buf name = {0};

		buf_printf(&name, "%s%s", f->name, f->kind == KIND_COUNTER ? "_total" : "");
		list_for_each (at_series, &f->series) {
			struct series *s = container_of(at_series, struct series, link);

			if (f->kind != KIND_HISTOGRAM)
				fn(arg, buf_str_view(&name), s->labels, metric_get(&s->metric));
		}
		buf_deinit(&name);
	}
	pthread_mutex_unlock(&lock);
}

void metrics_escape_label(struct buf *out, struct slice value)
{
	for (size_t i = 0; i < value.len; i++) {
		char c = value.p[i];

		if (c == '\n') {
			buf_add_str(out, "\\n");
			continue;
		}
		if (c == '\\' || c == '"')
			buf_add_char(out, '\\');
		buf_add_char(out, c);
	}
}
