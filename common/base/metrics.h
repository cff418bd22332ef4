/*
 * The metrics registry: counters, gauges and histograms that any thread may change, rendered as
 * OpenMetrics text. A metric lives as long as the program and is registered once, by name and labels:
 * asking again for the same pair gives the same metric. Names follow OpenMetrics: mailtier_<room>_<what>_<unit>;
 * a counter's name is given without the suffix _total.
 */
#pragma once

#include <stdatomic.h>

#include "common/base/buf.h"

struct metric {
	_Atomic int64_t value;
};

struct histogram;

/* labels: NULL, or text such as: service="imap",backend="b1". Values must come from label_escape() if not ours. */
struct metric *metrics_counter(const char *name, const char *labels, const char *help);
struct metric *metrics_gauge(const char *name, const char *labels, const char *help);
/* Seconds, buckets from 100 us to 60 s. */
struct histogram *metrics_histogram(const char *name, const char *labels, const char *help);

static inline void metric_add(struct metric *m, int64_t n)
{
	atomic_fetch_add_explicit(&m->value, n, memory_order_relaxed);
}

static inline void metric_set(struct metric *m, int64_t n)
{
	atomic_store_explicit(&m->value, n, memory_order_relaxed);
}

static inline int64_t metric_get(struct metric *m)
{
	return atomic_load_explicit(&m->value, memory_order_relaxed);
}

/* Sets the greater of both. */
void metric_raise(struct metric *m, int64_t n);
void histogram_observe_us(struct histogram *h, uint64_t microseconds);

/* A function that sets gauges right before rendering; called from the rendering thread. */
typedef void metrics_collect_fn(void *arg);
void metrics_on_collect(metrics_collect_fn *fn, void *arg);
void metrics_off_collect(metrics_collect_fn *fn, void *arg);

/* Appends the text of all, ending with "# EOF" (OpenMetrics 1.0). */
void metrics_render(struct buf *out);
/* For each metric that is no histogram: name with suffix, labels (may be ""), value. */
typedef void metrics_visit_fn(void *arg, const char *name, const char *labels, int64_t value);
void metrics_visit(metrics_visit_fn *fn, void *arg);
/* Appends a label value with backslash, quote and line feed escaped. */
void metrics_escape_label(struct buf *out, struct slice value);
