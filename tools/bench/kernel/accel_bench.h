/* SPDX-License-Identifier: GPL-2.0 */
/* What the Rust part of the module calls. */
#include <linux/types.h>

u64 accel_bench_now(void);
u64 accel_bench_gate(void);
