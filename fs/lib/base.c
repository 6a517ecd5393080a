#include "base.h"

#include <stdarg.h>
#include <stdio.h>
#include <sys/random.h>
#include <time.h>

int reason_set(struct reason *why, int err, const char *fmt, ...)
{
	if (why) {
		va_list args;
		va_start(args, fmt);
		vsnprintf(why->text, sizeof(why->text), fmt, args);
		va_end(args);
		for (char *p = why->text; *p; p++)
			if ((unsigned char)*p < ' ' || *p == 127)
				*p = ' ';
	}
	return -err;
}

static uint64_t clock_ns(clockid_t clock)
{
	struct timespec ts;

	clock_gettime(clock, &ts);
	return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

uint64_t time_mono_ns(void)
{
	return clock_ns(CLOCK_MONOTONIC);
}

uint64_t time_real_ns(void)
{
	return clock_ns(CLOCK_REALTIME);
}

int random_bytes(void *buf, size_t len)
{
	uint8_t *at = buf;

	while (len > 0) {
		ssize_t n = getrandom(at, len, 0);
		if (n < 0) {
			if (errno == EINTR)
				continue;
			return -errno;
		}
		at += n;
		len -= (size_t)n;
	}
	return 0;
}

int uuid_new(struct uuid *ret)
{
	int err = random_bytes(ret->b, sizeof(ret->b));

	if (err)
		return err;
	ret->b[6] = (uint8_t)((ret->b[6] & 0x0f) | 0x40);
	ret->b[8] = (uint8_t)((ret->b[8] & 0x3f) | 0x80);
	return 0;
}

static bool uuid_dash_before(size_t byte)
{
	return byte == 4 || byte == 6 || byte == 8 || byte == 10;
}

void uuid_text(const struct uuid *u, char ret[37])
{
	static const char digits[] = "0123456789abcdef";
	char *out = ret;

	for (size_t i = 0; i < sizeof(u->b); i++) {
		if (uuid_dash_before(i))
			*out++ = '-';
		*out++ = digits[u->b[i] >> 4];
		*out++ = digits[u->b[i] & 15];
	}
	*out = '\0';
}

static int hex_digit(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	if (c >= 'a' && c <= 'f')
		return c - 'a' + 10;
	if (c >= 'A' && c <= 'F')
		return c - 'A' + 10;
	return -1;
}

int uuid_parse(const char *text, struct uuid *ret)
{
	struct uuid u;

	if (strlen(text) != 36)
		return -EINVAL;
	for (size_t i = 0; i < sizeof(u.b); i++) {
		if (uuid_dash_before(i) && *text++ != '-')
			return -EINVAL;
		int hi = hex_digit(text[0]), lo = hi < 0 ? -1 : hex_digit(text[1]);
		if (lo < 0)
			return -EINVAL;
		u.b[i] = (uint8_t)(hi << 4 | lo);
		text += 2;
	}
	*ret = u;
	return 0;
}

int address_split(const char *text, uint16_t default_port, char ret_host[256], uint16_t *ret_port)
{
	const char *host = text, *end, *port = NULL;
	uint64_t number = default_port;

	if (*text == '[') {
		host = text + 1;
		end = strchr(host, ']');
		if (!end || (end[1] != '\0' && end[1] != ':'))
			return -EINVAL;
		if (end[1] == ':')
			port = end + 2;
	} else {
		end = strrchr(text, ':');
		if (end && memchr(text, ':', (size_t)(end - text)))
			return -EINVAL; /* an IPv6 address needs its brackets */
		if (end)
			port = end + 1;
		else
			end = text + strlen(text);
	}
	if (end == host || (size_t)(end - host) >= 256)
		return -EINVAL;
	if (port && parse_u64(port, 65535, &number) < 0)
		return -EINVAL;
	memcpy(ret_host, host, (size_t)(end - host));
	ret_host[end - host] = '\0';
	*ret_port = (uint16_t)number;
	return 0;
}

int parse_u64(const char *text, uint64_t max, uint64_t *ret)
{
	uint64_t v = 0;

	if (*text == '\0')
		return -EINVAL;
	for (; *text; text++) {
		if (*text < '0' || *text > '9')
			return -EINVAL;
		if (mul_overflows(v, 10, &v) || add_overflows(v, (uint64_t)(*text - '0'), &v) || v > max)
			return -EINVAL;
	}
	*ret = v;
	return 0;
}
