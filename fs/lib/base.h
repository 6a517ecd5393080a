/* base.h - the words every other file uses: little-endian fields, checked arithmetic, reasons.
 *
 * Errors in slabfs are 0 or -errno.  Where a person will want to know what and where, the function also takes a
 * `struct reason *why` (may be NULL): on failure it holds one line without a newline; on success it is untouched.
 * Nothing here has state; every function may be called from any thread.
 */
#ifndef SLAB_BASE_H
#define SLAB_BASE_H

#include <endian.h>
#include <errno.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define SLAB_VERSION "0.1.0"
#define SLAB_DEFAULT_PORT 7522
#define SLAB_NODES_MAX 128 /* nodes of one cluster */
#define SLAB_RANK_MAX 32   /* axes of one array, as NumPy's */
#define SLAB_NAME_MAX 255  /* bytes of one file name */

#define ARRAY_LEN(a) (sizeof(a) / sizeof((a)[0]))
#define MIN(a, b) ((a) < (b) ? (a) : (b))
#define MAX(a, b) ((a) > (b) ? (a) : (b))

/* ---- little-endian fields of formats and frames: one-member structs, so that raw use does not compile ---- */

struct le16 {
	uint16_t raw;
} __attribute__((packed));
struct le32 {
	uint32_t raw;
} __attribute__((packed));
struct le64 {
	uint64_t raw;
} __attribute__((packed));

static inline uint16_t le16_get(struct le16 v)
{
	return le16toh(v.raw);
}
static inline uint32_t le32_get(struct le32 v)
{
	return le32toh(v.raw);
}
static inline uint64_t le64_get(struct le64 v)
{
	return le64toh(v.raw);
}
static inline struct le16 le16_of(uint16_t v)
{
	return (struct le16){ htole16(v) };
}
static inline struct le32 le32_of(uint32_t v)
{
	return (struct le32){ htole32(v) };
}
static inline struct le64 le64_of(uint64_t v)
{
	return (struct le64){ htole64(v) };
}

/* ---- checked arithmetic for sizes that come from outside: true on overflow ---- */

static inline bool mul_overflows(uint64_t a, uint64_t b, uint64_t *ret)
{
	return __builtin_mul_overflow(a, b, ret);
}
static inline bool add_overflows(uint64_t a, uint64_t b, uint64_t *ret)
{
	return __builtin_add_overflow(a, b, ret);
}
static inline uint64_t div_up(uint64_t a, uint64_t b)
{
	return a / b + (a % b != 0);
}

/* ---- reasons ---- */

struct reason {
	char text[320];
};

/* Fills *why (if not NULL) and returns -err, so that a check reads `return reason_set(why, EINVAL, "...", ...)`. */
int reason_set(struct reason *why, int err, const char *fmt, ...) __attribute__((format(printf, 3, 4)));

/* ---- cleanup ---- */

static inline void cleanup_free(void *p)
{
	free(*(void **)p);
}
static inline void cleanup_close(int *fd)
{
	if (*fd >= 0)
		close(*fd);
}
#define AUTO_FREE __attribute__((cleanup(cleanup_free)))
#define AUTO_CLOSE __attribute__((cleanup(cleanup_close)))

/* ---- time: nanoseconds ---- */

uint64_t time_mono_ns(void); /* CLOCK_MONOTONIC: deadlines and durations */
uint64_t time_real_ns(void); /* CLOCK_REALTIME: timestamps of files and log lines */

/* ---- uuids and random bytes ---- */

struct uuid {
	uint8_t b[16];
};

int random_bytes(void *buf, size_t len);            /* getrandom; 0 or -errno */
int uuid_new(struct uuid *ret);                     /* a random (version 4) uuid */
void uuid_text(const struct uuid *u, char ret[37]); /* 8-4-4-4-12 and a NUL */
int uuid_parse(const char *text, struct uuid *ret); /* -EINVAL unless exactly 36 well-formed characters */
static inline bool uuid_equal(const struct uuid *a, const struct uuid *b)
{
	return !memcmp(a, b, sizeof(*a));
}

/* ---- addresses: "HOST:PORT", "[V6]:PORT", or HOST alone (port is then default_port) ---- */

int address_split(const char *text, uint16_t default_port, char ret_host[256], uint16_t *ret_port);

/* A whole decimal number in [0, max]; -EINVAL for anything else (sign, space, trailing text, overflow). */
int parse_u64(const char *text, uint64_t max, uint64_t *ret);

#endif
