// SPDX-License-Identifier: GPL-2.0
/*
 * Power: what the kernel calls when the system sleeps, wakes or goes down, when
 * a driver is bound to a PCI device, and when PCI reports errors; and what the
 * core asks of a parent. What is done about it is in accel_power.rs.
 */
#include <linux/device.h>
#include <linux/device/bus.h>
#include <linux/notifier.h>
#include <linux/pci.h>
#include <linux/pm_runtime.h>

#include "helpers.h"

/* The class: its devices are children of the parents, and so sleep before them. */

static int accel_class_sleep(struct device *dev)
{
	return accel_device_sleep(dev);
}

static int accel_class_wake(struct device *dev)
{
	accel_device_wake(dev);
	return 0;
}

static int accel_class_shutdown(struct device *dev)
{
	accel_device_shutdown(dev);
	return 0;
}

static const struct dev_pm_ops accel_class_pm = { SYSTEM_SLEEP_PM_OPS(
	accel_class_sleep, accel_class_wake) };

/**
 * accel_class_power() - have a class tell of the system's sleep and end
 * @class: just made
 */
void accel_class_power(struct class *class)
{
	class->pm = pm_sleep_ptr(&accel_class_pm);
	class->shutdown_pre = accel_class_shutdown;
}

/**
 * accel_class_device_end() - unregister a device of the class
 * @dev: the device
 *
 * When this returns nobody gets the data of the device any more, neither who
 * uses one of its attributes nor the class: the kernel calls the latter under
 * the lock of the device, and may do so for one that it has found just before
 * it was unregistered.
 */
void accel_class_device_end(struct device *dev)
{
	device_del(dev);
	device_lock(dev);
	dev_set_drvdata(dev, NULL);
	device_unlock(dev);
	put_device(dev);
}

/* The parent */

/*
 * While the parent is unbound its bus has let go of it already, so that what
 * the driver does last needs a reference of our own. A device that cannot be
 * resumed is gone, and is talked to all the same: its driver takes all-ones.
 */
void accel_pm_get(struct device *dev)
{
	pm_runtime_get_sync(dev);
}

void accel_pm_put(struct device *dev)
{
	pm_runtime_put_noidle(dev);
}

/**
 * accel_pm_rest() - let go of a parent, which then sleeps if nobody else has it
 * @dev: the parent
 */
void accel_pm_rest(struct device *dev)
{
	pm_runtime_put_sync_suspend(dev);
}

/**
 * accel_pm_delay_ms() - after how long without use a parent is to sleep
 * @dev: the parent
 *
 * Return: milliseconds, as root has set it; -1 it is to stay awake.
 */
int accel_pm_delay_ms(struct device *dev)
{
	/* As of some moment: root may change both at any time. */
	return dev->power.runtime_auto ?
		       READ_ONCE(dev->power.autosuspend_delay) :
		       -1;
}

static void accel_pm_stop(void *data)
{
	pm_runtime_dont_use_autosuspend(data);
}

/**
 * accel_pm_start() - have root see and set after how long a parent sleeps
 * @dev: the parent, which is being bound
 * @delay_ms: what it is at first
 *
 * It ends with the binding: root's "never" is a usage of the parent, which
 * whatever driver comes next knows nothing of.
 *
 * Return: 0, -ENOMEM
 */
int accel_pm_start(struct device *dev, unsigned int delay_ms)
{
	pm_runtime_set_autosuspend_delay(dev, min(delay_ms, INT_MAX));
	pm_runtime_use_autosuspend(dev);
	return devm_add_action_or_reset(dev, accel_pm_stop, dev);
}

#ifdef CONFIG_PCI

/*
 * With power operations, though they do nothing, the PCI core puts the device
 * into D3hot while the system sleeps, and not only when it is idle.
 */
static const struct dev_pm_ops accel_pci_pm = {};

static pci_ers_result_t accel_pci_error_detected(struct pci_dev *pdev,
						 pci_channel_state_t state)
{
	if (!accel_bus_trouble(&pdev->dev))
		return PCI_ERS_RESULT_NO_AER_DRIVER;
	/* With the link intact, that of the driver will do. */
	if (state == pci_channel_io_normal)
		return PCI_ERS_RESULT_CAN_RECOVER;
	if (state == pci_channel_io_frozen)
		return PCI_ERS_RESULT_NEED_RESET;
	/* Nothing follows: the driver finds out that it does not answer. */
	accel_bus_recovered(&pdev->dev);
	return PCI_ERS_RESULT_DISCONNECT;
}

static pci_ers_result_t accel_pci_slot_reset(struct pci_dev *pdev)
{
	pci_restore_state(pdev);
	return PCI_ERS_RESULT_RECOVERED;
}

static void accel_pci_resume(struct pci_dev *pdev)
{
	accel_bus_recovered(&pdev->dev);
}

/* Root resets the function, behind the driver's back. */
static void accel_pci_reset_prepare(struct pci_dev *pdev)
{
	accel_bus_trouble(&pdev->dev);
}

static const struct pci_error_handlers accel_pci_errors = {
	.error_detected = accel_pci_error_detected,
	.slot_reset = accel_pci_slot_reset,
	.resume = accel_pci_resume,
	.reset_prepare = accel_pci_reset_prepare,
	.reset_done = accel_pci_resume,
};

/**
 * accel_pci_power() - have the bus of a parent tell of its errors
 * @dev: a parent that is being bound
 * @sleeps: its driver puts it to sleep before the system sleeps
 *
 * What the parent's driver has of its own is left to it.
 */
void accel_pci_power(struct device *dev, bool sleeps)
{
	struct pci_dev *pdev = accel_to_pci(dev);
	struct pci_driver *pdrv;

	if (!pdev || !pdev->driver)
		return;
	pdrv = pdev->driver;
	if (!pdrv->err_handler)
		WRITE_ONCE(pdrv->err_handler, &accel_pci_errors);
	if (sleeps && !pdrv->driver.pm)
		WRITE_ONCE(pdrv->driver.pm, &accel_pci_pm);
	/* What is restored after an error: decoding memory, and a bus master. */
	pci_save_state(pdev);
}

/*
 * The PCI core keeps a device awake from probe on, for drivers that know
 * nothing of power, and takes for granted that the others have given this
 * back. While probe runs it may still fail, and then the core does so. Whether
 * the device may sleep at all stays what root says in power/control, which for
 * PCI is "on" until somebody says otherwise.
 */
static int accel_pci_event(struct notifier_block *nb, unsigned long event,
			   void *data)
{
	struct device *dev = data;

	if (event == BUS_NOTIFY_BOUND_DRIVER && accel_bus_lets_go(dev, true))
		pm_runtime_put_noidle(dev);
	else if (event == BUS_NOTIFY_UNBIND_DRIVER &&
		 accel_bus_lets_go(dev, false))
		pm_runtime_get_noresume(dev);
	return NOTIFY_DONE;
}

static struct notifier_block accel_pci_nb = {
	.notifier_call = accel_pci_event,
};

int accel_notify_pci(void)
{
	return bus_register_notifier(&pci_bus_type, &accel_pci_nb);
}

void accel_unnotify_pci(void)
{
	bus_unregister_notifier(&pci_bus_type, &accel_pci_nb);
}

#else

void accel_pci_power(struct device *dev, bool sleeps)
{
}

int accel_notify_pci(void)
{
	return 0;
}

void accel_unnotify_pci(void)
{
}

#endif
