// SPDX-License-Identifier: GPL-2.0
/* What the gate costs, and the clock that says so. */
#include <linux/module.h>
#include <linux/timex.h>

#include "accel_bench.h"
#include "helpers.h"

#define ROUNDS 10000

u64 accel_bench_now(void)
{
	return get_cycles();
}

/* To enter and leave once, as an ioctl does; U64_MAX if there is no memory. */
u64 accel_bench_gate(void)
{
	struct accel_gate gate;
	u64 start, end;
	int i;

	if (accel_gate_init(&gate, 0, 1))
		return U64_MAX;
	start = accel_bench_now();
	for (i = 0; i < ROUNDS; i++)
		if (accel_gate_enter(&gate, 0))
			accel_gate_leave(&gate, 0);
	end = accel_bench_now();
	accel_gate_destroy(&gate);
	return (end - start) / ROUNDS;
}

MODULE_IMPORT_NS("ACCEL");
