// SPDX-License-Identifier: GPL-2.0
/*
 * The gate: what stands between user space and the data of a driver.
 *
 * Operations enter and leave, and may sleep between. The gate can be blocked,
 * which keeps out what needs the hardware and lets in what only looks (the
 * first kinds, "monitors"), and opened again; and it can be closed for ever,
 * which keeps everything out. Whoever blocks or closes it can wait for those
 * that are inside. It is the read side of a percpu_rw_semaphore, with these
 * differences: nobody owns a lock while it is blocked; to wait takes an
 * expedited grace period, so that thousands of devices can go in seconds; and
 * counts are kept by kind of operation, so that the log can name what holds it,
 * and that monitors can be let in.
 *
 * Counts only grow: how many have entered on a CPU, and how many have left.
 *
 * Why the sums tell the truth. Who enters tests the state and counts itself
 * within one region without preemption. The other sets the state and waits for
 * a grace period (accel_gate_settle()): whoever saw the gate open has by then
 * counted itself in, visibly, and nobody of the kinds that are kept out counts
 * itself in afterwards, until the gate is opened again, which is for the same
 * caller to do. So for these kinds the sum of those who entered stands still,
 * and the sum of those who left rises to it. Those who left are summed first: a
 * count that is read too early shows somebody inside who has left, never the
 * reverse.
 *
 * Why what was done inside is seen by the one who waits. Who leaves does so in a
 * region without preemption too, in which it reads the state before it counts
 * itself out. A region that began before the grace period did is ended, and all
 * before it visible, when the period ends. One that began later sees the gate
 * blocked, and orders its work before its count (A); who waits orders the counts
 * before what it does next (B). It cannot see an earlier time at which the gate
 * was open, since the grace period began after the gate was blocked; nor a later
 * one, since the one who waits has not opened it yet.
 *
 * Why who enters sees what was done while the gate was blocked. To open it is a
 * release (C), to find it open an acquire (D).
 *
 * Why a wake-up is not lost. Who leaves and sees the gate blocked counts itself
 * out and then wakes, taking the lock of the queue, which who waits has taken
 * before it looked. Who leaves and sees it open is visible to the first look.
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
 * @monitors: the first so many kinds pass a gate that is blocked
 * @kinds: kinds of operation, from 0
 *
 * Return: 0 or -ENOMEM.
 */
int accel_gate_init(struct accel_gate *gate, unsigned int monitors,
		    unsigned int kinds)
{
	gate->entered =
		__alloc_percpu(array_size(kinds, 2 * sizeof(unsigned long)),
			       sizeof(unsigned long));
	if (!gate->entered)
		return -ENOMEM;
	gate->left = gate->entered + kinds;
	gate->monitors = monitors;
	gate->kinds = kinds;
	atomic_set(&gate->state, 0);
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
	free_percpu(gate->entered);
}

/* Whether a gate that is not open lets operations of a kind in. */
static bool accel_gate_passes(const struct accel_gate *gate, int state,
			      unsigned int kind)
{
	return !(state & ACCEL_GATE_CLOSED) && kind < gate->monitors;
}

/**
 * accel_gate_enter() - begin an operation
 * @gate: the gate
 * @kind: kind of operation, less than the gate's number of kinds
 *
 * Return: whether the gate let it in; if so accel_gate_leave() must follow, on
 * any CPU.
 */
bool accel_gate_enter(struct accel_gate *gate, unsigned int kind)
{
	int state;

	preempt_disable();
	state = atomic_read_acquire(&gate->state); /* D, pairs with C */
	if (unlikely(state) && !accel_gate_passes(gate, state, kind)) {
		preempt_enable();
		return false;
	}
	this_cpu_inc(gate->entered[kind]);
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
	int state;

	gate_dep_release(gate);
	preempt_disable();
	state = atomic_read(&gate->state);
	if (unlikely(state))
		smp_mb(); /* A, pairs with B */
	this_cpu_inc(gate->left[kind]);
	preempt_enable();
	/* The lock of a wait queue may sleep, and the caller keeps the gate. */
	if (unlikely(state))
		wake_up_all(&gate->drained);
}

/**
 * accel_gate_block() - let monitors in only
 * @gate: the gate
 *
 * Does not sleep. Others may enter until accel_gate_settle() has returned.
 */
void accel_gate_block(struct accel_gate *gate)
{
	atomic_or(ACCEL_GATE_BLOCKED, &gate->state);
}

/**
 * accel_gate_unblock() - let everybody in again, unless the gate is closed
 * @gate: the gate
 */
void accel_gate_unblock(struct accel_gate *gate)
{
	/* C, pairs with D */
	atomic_fetch_andnot_release(ACCEL_GATE_BLOCKED, &gate->state);
}

/**
 * accel_gate_is_blocked() - does the gate let monitors in only
 * @gate: the gate
 *
 * Return: whether it does now.
 */
bool accel_gate_is_blocked(const struct accel_gate *gate)
{
	return atomic_read(&gate->state) & ACCEL_GATE_BLOCKED;
}

/**
 * accel_gate_settle() - wait until nobody enters any more
 * @gate: a gate that is blocked, and stays so
 */
void accel_gate_settle(struct accel_gate *gate)
{
	synchronize_rcu_expedited();
}

/**
 * accel_gate_close() - let nobody in any more
 * @gate: the gate
 */
void accel_gate_close(struct accel_gate *gate)
{
	atomic_or(ACCEL_GATE_CLOSED, &gate->state);
	synchronize_rcu_expedited();
}

static unsigned long accel_gate_sum(const unsigned long __percpu *counts,
				    unsigned int kind)
{
	unsigned long sum = 0;
	int cpu;

	for_each_possible_cpu(cpu)
		sum += READ_ONCE(*per_cpu_ptr(&counts[kind], cpu));
	return sum;
}

/**
 * accel_gate_entered() - count operations of a kind that have begun
 * @gate: the gate
 * @kind: kind of operation
 *
 * Return: how many there have been.
 */
unsigned long accel_gate_entered(const struct accel_gate *gate,
				 unsigned int kind)
{
	return accel_gate_sum(gate->entered, kind);
}

/**
 * accel_gate_inside() - count operations of a kind that are inside
 * @gate: a gate that lets none of that kind in
 * @kind: kind of operation
 *
 * Return: the count; at times a few too many, never too few.
 */
unsigned long accel_gate_inside(const struct accel_gate *gate,
				unsigned int kind)
{
	unsigned long left = accel_gate_sum(gate->left, kind);

	smp_rmb(); /* whoever was seen to leave is seen to have entered */
	return accel_gate_sum(gate->entered, kind) - left;
}

/**
 * accel_gate_uses() - count operations so far
 * @gate: the gate
 * @first: of this kind and those that follow
 *
 * Return: how many have entered; it wraps.
 */
unsigned long accel_gate_uses(const struct accel_gate *gate, unsigned int first)
{
	unsigned long sum = 0;
	unsigned int kind;

	for (kind = first; kind < gate->kinds; kind++)
		sum += accel_gate_sum(gate->entered, kind);
	return sum;
}

static bool accel_gate_empty(const struct accel_gate *gate, unsigned int first)
{
	unsigned int kind;

	for (kind = first; kind < gate->kinds; kind++)
		if (accel_gate_inside(gate, kind))
			return false;
	smp_mb(); /* B, pairs with A */
	return true;
}

/**
 * accel_gate_drain() - wait until nobody is inside
 * @gate: a gate that is blocked and has settled, or that is closed
 * @monitors: wait for these too; only if it is closed
 * @timeout_ms: for how long
 *
 * Return: whether nobody is inside.
 */
bool accel_gate_drain(struct accel_gate *gate, bool monitors,
		      unsigned long timeout_ms)
{
	unsigned int first = monitors ? 0 : gate->monitors;

	gate_dep_drain(gate);
	return wait_event_timeout(gate->drained, accel_gate_empty(gate, first),
				  msecs_to_jiffies(timeout_ms));
}
