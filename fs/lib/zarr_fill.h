/* zarr_fill.h - the fill_value of a Zarr v3 array document, as JSON, to an element.
 *
 * The forms are those of the Zarr v3 core specification, "Fill value": true and false; whole numbers; numbers, "NaN",
 * "Infinity", "-Infinity" or the bits as "0x7fc00000" for floats; two of these in an array for complex.
 * Stateless; any thread.
 */
#ifndef SLAB_ZARR_FILL_H
#define SLAB_ZARR_FILL_H

#include "base.h"
#include "dtype.h"
#include "json.h"

/* *ret is in machine byte order.  -EINVAL with a reason that names fill_value. */
int zarr_fill_parse(const struct json *j, enum dtype dtype, union dtype_value *ret, struct reason *why);

#endif
