// SPDX-License-Identifier: GPL-2.0
/*
 * Waking users without waiting for as many as there may be: for wait.rs and
 * work.rs.
 */
#include <linux/wait.h>
#include <linux/workqueue.h>

#include "helpers.h"

/* Who sleeps in accel_wait() leaves the queue as it is woken, and costs little. */
#define ACCEL_FEW 16

/**
 * accel_wake_few() - wake all who wait, if they are few and only sleep
 * @wq: woken after what they wait for may have become so
 *
 * Behind one who polls there may be tens of thousands, in epolls and what
 * watches those, all of which are woken with interrupts off.
 *
 * Return: whether there is nobody left for accel_wake_all().
 */
bool accel_wake_few(struct wait_queue_head *wq)
{
	struct wait_queue_entry *entry;
	unsigned int count = 0;
	unsigned long flags;
	bool few = true;

	if (!wq_has_sleeper(wq))
		return true;
	/* It may be held by accel_wake_all(), for as long as that takes. */
	if (!spin_trylock_irqsave(&wq->lock, flags))
		return false;
	list_for_each_entry(entry, &wq->head, entry) {
		if (entry->func != autoremove_wake_function ||
		    ++count > ACCEL_FEW) {
			few = false;
			break;
		}
	}
	if (few)
		wake_up_all_locked(wq);
	spin_unlock_irqrestore(&wq->lock, flags);
	return few;
}

static struct workqueue_struct *accel_later;

/* A queue of our own, as the module can go only when it is empty. */
int accel_later_start(void)
{
	accel_later = alloc_workqueue("accel_later", WQ_UNBOUND, 0);
	return accel_later ? 0 : -ENOMEM;
}

void accel_later_stop(void)
{
	destroy_workqueue(accel_later);
}

struct workqueue_struct *accel_later_queue(void)
{
	return accel_later;
}
