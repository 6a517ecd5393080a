/* Any bytes as the start of a .npy file: what is accepted can be written and reads back the same. */
#include "npy.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(bool ok)
{
	if (!ok)
		abort();
}

static void check_again(const struct npy *h)
{
	uint8_t buf[2048];
	struct npy again;
	size_t len;

	check(npy_format(h, 0, buf, sizeof(buf), &len) == 0 && len % 64 == 0);
	check(npy_parse(buf, len, &again, NULL, NULL) == 0 && again.header_bytes == len);
	check(again.dtype == h->dtype && again.big_endian == h->big_endian);
	check(again.fortran_order == h->fortran_order && again.rank == h->rank);
	check(!memcmp(again.shape, h->shape, h->rank * sizeof(h->shape[0])));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct reason why = { "" };
	size_t need = 0;
	struct npy h;

	switch (npy_parse(data, size, &h, &need, &why)) {
	case 0:
		check(h.header_bytes <= size && dtype_valid(h.dtype));
		check_again(&h);
		break;
	case -EAGAIN:
		check(need > size && need <= NPY_HEADER_MAX);
		break;
	default:
		check(why.text[0] && !strchr(why.text, '\n'));
	}
	return 0;
}
