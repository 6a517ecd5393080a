#include "dtype.h"

#include <math.h>
#include <stdio.h>

static const struct dtype_info {
	const char *zarr;
	char kind; /* NumPy's kind character */
	uint8_t bytes;
	uint8_t cls; /* enum dtype_class */
} infos[DTYPE_END] = {
	[DTYPE_BOOL] = { "bool", 'b', 1, DTYPE_CLASS_BOOL },
	[DTYPE_INT8] = { "int8", 'i', 1, DTYPE_CLASS_INT },
	[DTYPE_INT16] = { "int16", 'i', 2, DTYPE_CLASS_INT },
	[DTYPE_INT32] = { "int32", 'i', 4, DTYPE_CLASS_INT },
	[DTYPE_INT64] = { "int64", 'i', 8, DTYPE_CLASS_INT },
	[DTYPE_UINT8] = { "uint8", 'u', 1, DTYPE_CLASS_UINT },
	[DTYPE_UINT16] = { "uint16", 'u', 2, DTYPE_CLASS_UINT },
	[DTYPE_UINT32] = { "uint32", 'u', 4, DTYPE_CLASS_UINT },
	[DTYPE_UINT64] = { "uint64", 'u', 8, DTYPE_CLASS_UINT },
	[DTYPE_FLOAT16] = { "float16", 'f', 2, DTYPE_CLASS_FLOAT },
	[DTYPE_FLOAT32] = { "float32", 'f', 4, DTYPE_CLASS_FLOAT },
	[DTYPE_FLOAT64] = { "float64", 'f', 8, DTYPE_CLASS_FLOAT },
	[DTYPE_COMPLEX64] = { "complex64", 'c', 8, DTYPE_CLASS_COMPLEX },
	[DTYPE_COMPLEX128] = { "complex128", 'c', 16, DTYPE_CLASS_COMPLEX },
};

bool dtype_valid(unsigned dtype)
{
	return dtype > 0 && dtype < DTYPE_END;
}

size_t dtype_bytes(enum dtype dtype)
{
	return infos[dtype].bytes;
}

enum dtype_class dtype_class(enum dtype dtype)
{
	return (enum dtype_class)infos[dtype].cls;
}

const char *dtype_zarr_name(enum dtype dtype)
{
	return infos[dtype].zarr;
}

int dtype_from_zarr(const char *name, enum dtype *ret)
{
	for (unsigned d = 1; d < DTYPE_END; d++) {
		if (!strcmp(infos[d].zarr, name)) {
			*ret = (enum dtype)d;
			return 0;
		}
	}
	return -EINVAL;
}

static bool machine_is_big(void)
{
	return __BYTE_ORDER == __BIG_ENDIAN;
}

int dtype_from_npy(const char *descr, enum dtype *ret, bool *ret_big)
{
	char text[8];

	if (!descr[0] || !strchr("<>=|", descr[0]))
		return -EINVAL;
	for (unsigned d = 1; d < DTYPE_END; d++) {
		snprintf(text, sizeof(text), "%c%u", infos[d].kind, infos[d].bytes);
		if (strcmp(text, descr + 1))
			continue;
		*ret = (enum dtype)d;
		if (infos[d].bytes == 1)
			*ret_big = false;
		else
			*ret_big = descr[0] == '>' || (descr[0] != '<' && machine_is_big());
		return 0;
	}
	return -EINVAL;
}

void dtype_npy_descr(enum dtype dtype, bool big, char ret[8])
{
	const struct dtype_info *info = &infos[dtype];

	snprintf(ret, 8, "%c%c%u", info->bytes == 1 ? '|' : big ? '>' : '<', info->kind, info->bytes);
}

static void swap2(char *dst, const char *src, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		uint16_t v;

		memcpy(&v, src + i * 2, 2);
		v = __builtin_bswap16(v);
		memcpy(dst + i * 2, &v, 2);
	}
}

static void swap4(char *dst, const char *src, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		uint32_t v;

		memcpy(&v, src + i * 4, 4);
		v = __builtin_bswap32(v);
		memcpy(dst + i * 4, &v, 4);
	}
}

static void swap8(char *dst, const char *src, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		uint64_t v;

		memcpy(&v, src + i * 8, 8);
		v = __builtin_bswap64(v);
		memcpy(dst + i * 8, &v, 8);
	}
}

void dtype_swap(enum dtype dtype, void *dst, const void *src, size_t n_elems)
{
	size_t n_parts = infos[dtype].cls == DTYPE_CLASS_COMPLEX ? 2 : 1;
	size_t n = n_elems * n_parts;

	switch (infos[dtype].bytes / n_parts) {
	case 2:
		swap2(dst, src, n);
		break;
	case 4:
		swap4(dst, src, n);
		break;
	case 8:
		swap8(dst, src, n);
		break;
	default:
		if (n && dst != src)
			memmove(dst, src, n);
	}
}

double dtype_half_to_double(uint16_t half)
{
	unsigned exponent = half >> 10 & 0x1f, mantissa = half & 0x3ff;
	double v;

	if (exponent == 0x1f) {
		uint64_t bits = UINT64_C(0x7ff) << 52 | (uint64_t)mantissa << 42;

		memcpy(&v, &bits, sizeof(v));
	} else if (exponent == 0) {
		v = ldexp(mantissa, -24);
	} else {
		v = ldexp(mantissa + 1024, (int)exponent - 25);
	}
	return half & 0x8000 ? -v : v;
}

uint16_t dtype_double_to_half(double v)
{
	unsigned sign = signbit(v) ? 0x8000 : 0;
	double a = fabs(v);
	int exponent;

	if (isnan(v)) {
		uint64_t bits;
		unsigned payload;

		memcpy(&bits, &v, sizeof(bits));
		payload = bits >> 42 & 0x3ff;
		return (uint16_t)(sign | 0x7c00 | (payload ? payload : 0x200));
	}
	if (a >= 65520)
		return (uint16_t)(sign | 0x7c00);
	if (a < 0x1p-14)
		return (uint16_t)(sign | (unsigned)rint(a * 0x1p24));
	frexp(a, &exponent);
	/* A mantissa that rounds up to 2048 carries into the exponent, as it must. */
	return (uint16_t)(sign | (((unsigned)(exponent + 14) << 10) + (unsigned)rint(ldexp(a, 11 - exponent)) - 1024));
}
