/*
 * Fixed-width numbers in byte strings: little-endian for records, big-endian for keys that must sort. No alignment is
 * needed.
 */
#pragma once

#include <stdint.h>
#include <string.h>

static inline void bytes_put_u16(void *to, uint16_t n)
{
	unsigned char *p = to;

	p[0] = (unsigned char)n;
	p[1] = (unsigned char)(n >> 8);
}

static inline void bytes_put_u32(void *to, uint32_t n)
{
#if __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
	n = __builtin_bswap32(n);
#endif
	memcpy(to, &n, sizeof(n));
}

static inline void bytes_put_u64(void *to, uint64_t n)
{
#if __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
	n = __builtin_bswap64(n);
#endif
	memcpy(to, &n, sizeof(n));
}

static inline uint16_t bytes_get_u16(const void *from)
{
	const unsigned char *p = from;

	return (uint16_t)(p[0] | p[1] << 8);
}

static inline uint32_t bytes_get_u32(const void *from)
{
	uint32_t n;

	memcpy(&n, from, sizeof(n));
#if __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
	n = __builtin_bswap32(n);
#endif
	return n;
}

static inline uint64_t bytes_get_u64(const void *from)
{
	uint64_t n;

	memcpy(&n, from, sizeof(n));
#if __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
	n = __builtin_bswap64(n);
#endif
	return n;
}

static inline void bytes_put_u32be(void *to, uint32_t n)
{
#if __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
	n = __builtin_bswap32(n);
#endif
	memcpy(to, &n, sizeof(n));
}

static inline void bytes_put_u64be(void *to, uint64_t n)
{
#if __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
	n = __builtin_bswap64(n);
#endif
	memcpy(to, &n, sizeof(n));
}

static inline uint32_t bytes_get_u32be(const void *from)
{
	uint32_t n;

	memcpy(&n, from, sizeof(n));
#if __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
	n = __builtin_bswap32(n);
#endif
	return n;
}

static inline uint64_t bytes_get_u64be(const void *from)
{
	uint64_t n;

	memcpy(&n, from, sizeof(n));
#if __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
	n = __builtin_bswap64(n);
#endif
	return n;
}
