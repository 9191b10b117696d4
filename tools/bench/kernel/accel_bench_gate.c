// SPDX-License-Identifier: GPL-2.0
/* What the gate costs, and the clock that says so. */
#include <linux/minmax.h>
#include <linux/module.h>
#include <linux/timex.h>

#include "accel_bench.h"
#include "helpers.h"

#define ROUNDS 1000
#define RUNS 10

u64 accel_bench_now(void)
{
	return get_cycles();
}

static u64 one_run(struct accel_gate *gate)
{
	u64 start = accel_bench_now();
	int i;

	for (i = 0; i < ROUNDS; i++)
		if (accel_gate_enter(gate, 0))
			accel_gate_leave(gate, 0);
	return accel_bench_now() - start;
}

/*
 * To enter and leave once, as an ioctl does; U64_MAX if there is no memory.
 * The best run counts: others are interrupted.
 */
u64 accel_bench_gate(void)
{
	struct accel_gate gate;
	u64 best = U64_MAX;
	int i;

	if (accel_gate_init(&gate, 0, 1))
		return U64_MAX;
	for (i = 0; i < RUNS; i++)
		best = min(best, one_run(&gate));
	accel_gate_destroy(&gate);
	return best / ROUNDS;
}

MODULE_IMPORT_NS("ACCEL");
