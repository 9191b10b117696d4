// SPDX-License-Identifier: GPL-2.0
/*
 * The gate: what stands between user space and the data of a driver.
 *
 * Operations enter and leave, and may sleep between; closing it for ever keeps
 * new ones out and waits for those that are inside. It is the read side of a
 * percpu_rw_semaphore, with three differences that the life of a device asks
 * for: it is never opened again, so that nobody owns a lock for ever; closing
 * takes an expedited grace period, so that thousands of devices can go in
 * seconds; and the counts are kept by kind of operation, so that the log can
 * name what holds it.
 *
 * Why the sum tells the truth. A reader tests "closed" and counts itself within
 * one region without preemption. The closer sets "closed" and waits for a grace
 * period: whoever saw the gate open has by then counted itself in, visibly, and
 * nobody counts itself in afterwards. From there on the sum only falls. A count
 * that is read too early shows somebody inside who has left, never the reverse.
 *
 * Why what a reader did is seen by the closer. A reader that leaves before the
 * grace period has ended is ordered by it. One that leaves later sees "closed"
 * and orders its work before its count (A), the closer orders the counts before
 * what it does next (B).
 */
#include <linux/percpu.h>
#include <linux/rcupdate.h>

#include "helpers.h"

#ifdef CONFIG_DEBUG_LOCK_ALLOC
static struct lock_class_key accel_gate_key;

static void gate_dep_acquire(struct accel_gate *gate)
{
	rwsem_acquire_read(&gate->dep_map, 0, 1, _RET_IP_);
}

static void gate_dep_release(struct accel_gate *gate)
{
	rwsem_release(&gate->dep_map, _RET_IP_);
}

static void gate_dep_drain(struct accel_gate *gate)
{
	rwsem_acquire(&gate->dep_map, 0, 0, _RET_IP_);
	rwsem_release(&gate->dep_map, _RET_IP_);
}
#else
static void gate_dep_acquire(struct accel_gate *gate)
{
}

static void gate_dep_release(struct accel_gate *gate)
{
}

static void gate_dep_drain(struct accel_gate *gate)
{
}
#endif

/**
 * accel_gate_init() - make a gate that is open
 * @gate: where
 * @kinds: kinds of operation, from 0
 *
 * Return: 0 or -ENOMEM.
 */
int accel_gate_init(struct accel_gate *gate, unsigned int kinds)
{
	gate->inside = __alloc_percpu(array_size(kinds, sizeof(unsigned int)),
				      sizeof(unsigned int));
	if (!gate->inside)
		return -ENOMEM;
	gate->kinds = kinds;
	gate->closed = false;
	init_waitqueue_head(&gate->drained);
#ifdef CONFIG_DEBUG_LOCK_ALLOC
	lockdep_init_map(&gate->dep_map, "accel_gate", &accel_gate_key, 0);
#endif
	return 0;
}

/**
 * accel_gate_destroy() - free a gate that nobody is inside of or will enter
 * @gate: the gate
 */
void accel_gate_destroy(struct accel_gate *gate)
{
	free_percpu(gate->inside);
}

/**
 * accel_gate_enter() - begin an operation
 * @gate: the gate
 * @kind: kind of operation, less than the gate's number of kinds
 *
 * Return: whether the gate was open; if so accel_gate_leave() must follow, on
 * any CPU.
 */
bool accel_gate_enter(struct accel_gate *gate, unsigned int kind)
{
	preempt_disable();
	if (unlikely(READ_ONCE(gate->closed))) {
		preempt_enable();
		return false;
	}
	this_cpu_inc(gate->inside[kind]);
	preempt_enable();
	gate_dep_acquire(gate);
	return true;
}

/**
 * accel_gate_leave() - end an operation
 * @gate: the gate, which the caller must keep alive until this returns
 * @kind: as in accel_gate_enter()
 */
void accel_gate_leave(struct accel_gate *gate, unsigned int kind)
{
	bool closed;

	gate_dep_release(gate);
	preempt_disable();
	closed = READ_ONCE(gate->closed);
	if (unlikely(closed))
		smp_mb(); /* A, pairs with B */
	this_cpu_dec(gate->inside[kind]);
	preempt_enable();
	/* The lock of a wait queue may sleep, and the caller keeps the gate. */
	if (unlikely(closed))
		wake_up_all(&gate->drained);
}

/**
 * accel_gate_close() - let nobody in any more
 * @gate: the gate
 */
void accel_gate_close(struct accel_gate *gate)
{
	WRITE_ONCE(gate->closed, true);
	synchronize_rcu_expedited();
}

/**
 * accel_gate_inside() - count operations of a kind that are inside
 * @gate: a gate that was closed
 * @kind: kind of operation
 *
 * Return: the count; at times a few too many, never too few.
 */
unsigned int accel_gate_inside(const struct accel_gate *gate, unsigned int kind)
{
	unsigned int sum = 0;
	int cpu;

	for_each_possible_cpu(cpu)
		sum += READ_ONCE(*per_cpu_ptr(&gate->inside[kind], cpu));
	return sum;
}

static bool accel_gate_empty(const struct accel_gate *gate)
{
	unsigned int kind;

	for (kind = 0; kind < gate->kinds; kind++)
		if (accel_gate_inside(gate, kind))
			return false;
	smp_mb(); /* B, pairs with A */
	return true;
}

/**
 * accel_gate_drain() - wait until nobody is inside
 * @gate: a gate that was closed
 * @timeout_ms: for how long
 *
 * Return: whether nobody is inside.
 */
bool accel_gate_drain(struct accel_gate *gate, unsigned long timeout_ms)
{
	gate_dep_drain(gate);
	return wait_event_timeout(gate->drained, accel_gate_empty(gate),
				  msecs_to_jiffies(timeout_ms));
}
