// SPDX-License-Identifier: GPL-2.0
/*
 * Macros and inline functions of the kernel, made callable from Rust, and the
 * few things that are a line of C and a page of Rust. No policy in here.
 */
#include <linux/file.h>
#include <linux/mount.h>
#include <linux/module.h>
#include <linux/nospec.h>
#include <linux/pm_runtime.h>
#include <linux/pseudo_fs.h>
#include <linux/sched/signal.h>
#include <linux/slab.h>
#include <linux/uaccess.h>

#include "helpers.h"

/* User memory */

/* Words are faster than a copy routine for what an ioctl carries. */
#define ACCEL_COPY_WORDS_MAX 256

static int copy_words_in(u64 *dst, const u64 __user *src, size_t size)
{
	size_t i;

	if (!user_access_begin(src, size))
		return -EFAULT;
	for (i = 0; i < size / sizeof(u64); i++)
		unsafe_get_user(dst[i], &src[i], fault);
	user_access_end();
	return 0;
fault:
	user_access_end();
	return -EFAULT;
}

static int copy_words_out(u64 __user *dst, const u64 *src, size_t size)
{
	size_t i;

	if (!user_access_begin(dst, size))
		return -EFAULT;
	for (i = 0; i < size / sizeof(u64); i++)
		unsafe_put_user(src[i], &dst[i], fault);
	user_access_end();
	return 0;
fault:
	user_access_end();
	return -EFAULT;
}

static bool is_words(const void *kernel, size_t size)
{
	return IS_ENABLED(CONFIG_64BIT) && size <= ACCEL_COPY_WORDS_MAX &&
	       IS_ALIGNED(size | (unsigned long)kernel, sizeof(u64));
}

/* Out of line, so that the way of most ioctls saves no registers. */
static noinline int copy_in_any(void *dst, size_t ksize, unsigned long src,
				size_t usize)
{
	return copy_struct_from_user(dst, ksize, (const void __user *)src,
				     usize);
}

static noinline int copy_out_any(unsigned long dst, const void *src,
				 size_t size)
{
	return copy_to_user((void __user *)dst, src, size) ? -EFAULT : 0;
}

/**
 * accel_copy_in() - read a structure that grows, as copy_struct_from_user()
 * @dst: best aligned to 8
 * @ksize: bytes at @dst, all of which are written
 * @src: user address
 * @usize: bytes at @src
 *
 * Return: 0, -EFAULT, or -E2BIG when what follows @ksize is not zero.
 */
int accel_copy_in(void *dst, size_t ksize, unsigned long src, size_t usize)
{
	if (likely(ksize == usize && is_words(dst, ksize)))
		return copy_words_in(dst, (const u64 __user *)src, ksize);
	return copy_in_any(dst, ksize, src, usize);
}

/**
 * accel_copy_out() - write as much of a structure as both sides know
 * @dst: user address
 * @usize: bytes at @dst; what follows @ksize is left alone
 * @src: best aligned to 8
 * @ksize: bytes at @src
 *
 * Return: 0 or -EFAULT.
 */
int accel_copy_out(unsigned long dst, size_t usize, const void *src,
		   size_t ksize)
{
	size_t size = min(usize, ksize);

	if (likely(is_words(src, size)))
		return copy_words_out((u64 __user *)dst, src, size);
	return copy_out_any(dst, src, size);
}

/**
 * accel_copy_out_zeroed() - accel_copy_out() that zeroes what follows @ksize
 * @dst: user address
 * @usize: bytes at @dst
 * @src: best aligned to 8
 * @ksize: bytes at @src
 *
 * Return: 0 or -EFAULT.
 */
int accel_copy_out_zeroed(unsigned long dst, size_t usize, const void *src,
			  size_t ksize)
{
	int err = accel_copy_out(dst, usize, src, ksize);

	if (!err && usize > ksize &&
	    clear_user((void __user *)(dst + ksize), usize - ksize))
		err = -EFAULT;
	return err;
}

unsigned long accel_index_nospec(unsigned long index, unsigned long size)
{
	return array_index_nospec(index, size);
}

/* Device numbers and inodes */

dev_t accel_mkdev(unsigned int major, unsigned int minor)
{
	return MKDEV(major, minor);
}

unsigned int accel_major(dev_t dev)
{
	return MAJOR(dev);
}

unsigned int accel_inode_minor(const struct inode *inode)
{
	return iminor(inode);
}

/*
 * A file system that nobody sees, whose inodes carry the address space that all
 * files of one device share. It has no owner: it is unmounted by the module's
 * own exit, and a reference of its own would keep that from running.
 */
static int accel_fs_init_context(struct fs_context *fc)
{
	return init_pseudo(fc, 0x4143434c) ? 0 : -ENOMEM;
}

static struct file_system_type accel_fs_type = {
	.name = "accel",
	.init_fs_context = accel_fs_init_context,
	.kill_sb = kill_anon_super,
};

static struct vfsmount *accel_fs;

int accel_fs_mount(void)
{
	accel_fs = kern_mount(&accel_fs_type);
	return PTR_ERR_OR_ZERO(accel_fs);
}

void accel_fs_unmount(void)
{
	kern_unmount(accel_fs);
}

struct inode *accel_fs_inode(void)
{
	return alloc_anon_inode(accel_fs->mnt_sb);
}

/* Mappings and pages */

/**
 * accel_mmap_prepare() - what holds for every mapping of the subsystem
 * @desc: from the mmap_prepare operation
 *
 * Shared, never executable, page frames rather than pages.
 *
 * Return: 0, -EINVAL for a private mapping, -EACCES for an executable one.
 */
int accel_mmap_prepare(struct vm_area_desc *desc)
{
	if (!vma_desc_test(desc, VMA_MAYSHARE_BIT))
		return -EINVAL;
	if (vma_desc_test(desc, VMA_EXEC_BIT))
		return -EACCES;
	vma_desc_set_flags(desc, VMA_IO_BIT, VMA_PFNMAP_BIT, VMA_DONTEXPAND_BIT,
			   VMA_DONTDUMP_BIT);
	vma_desc_clear_flags(desc, VMA_MAYEXEC_BIT);
	return 0;
}

/* Aligned so that large buffers can be mapped by PMD entries, where there are. */
unsigned long accel_get_unmapped_area(struct file *file, unsigned long addr,
				      unsigned long len, unsigned long pgoff,
				      unsigned long flags)
{
#ifdef CONFIG_TRANSPARENT_HUGEPAGE
	return thp_get_unmapped_area(file, addr, len, pgoff, flags);
#else
	return mm_get_unmapped_area(file, addr, len, pgoff, flags);
#endif
}

/**
 * accel_vmf_is_pmd() - can this fault be answered with one entry of a PMD
 * @vmf: the fault
 * @order: of the entry that the kernel asks for
 *
 * Return: whether it is PMD-sized and lies in the mapping as a whole.
 */
bool accel_vmf_is_pmd(const struct vm_fault *vmf, unsigned int order)
{
	unsigned long start = vmf->address & PMD_MASK;

	return IS_ENABLED(CONFIG_TRANSPARENT_HUGEPAGE) &&
	       order == PMD_SHIFT - PAGE_SHIFT && start >= vmf->vma->vm_start &&
	       start + PMD_SIZE <= vmf->vma->vm_end;
}

/**
 * accel_vmf_insert_pmd() - answer a fault with one entry of a PMD
 * @vmf: a fault that accel_vmf_is_pmd()
 * @pfn: first page frame of a block of that size
 *
 * The entry of a shared mapping is writable when it is made. To ask for that
 * again is right only where there is an entry that is not; elsewhere somebody
 * else may be filling in a page table, which the kernel would warn of.
 *
 * Return: VM_FAULT_NOPAGE, VM_FAULT_FALLBACK, or an error.
 */
vm_fault_t accel_vmf_insert_pmd(struct vm_fault *vmf, unsigned long pfn)
{
#ifdef CONFIG_TRANSPARENT_HUGEPAGE
	bool write = (vmf->flags & FAULT_FLAG_WRITE) &&
		     !pmd_none(vmf->orig_pmd);

	return vmf_insert_pfn_pmd(vmf, pfn, write);
#else
	return VM_FAULT_FALLBACK;
#endif
}

struct page *accel_pages_alloc(unsigned int order)
{
	/*
	 * Large blocks are worth no effort. For a page there is reclaim, but no
	 * killing: who asks for too much is told so.
	 */
	gfp_t effort = order ? __GFP_NORETRY : __GFP_RETRY_MAYFAIL;

	return alloc_pages(
		GFP_KERNEL_ACCOUNT | __GFP_ZERO | __GFP_NOWARN | effort, order);
}

void *accel_page_address(struct page *page)
{
	return page_address(page);
}

unsigned long accel_page_pfn(struct page *page)
{
	return page_to_pfn(page);
}

bool accel_fatal_signal_pending(void)
{
	return fatal_signal_pending(current);
}

void accel_cond_resched(void)
{
	cond_resched();
}

/* Modules that go */

bool accel_within_module(const void *addr, const struct module *mod)
{
	return within_module((unsigned long)addr, mod);
}

/* For ever: something was left behind that still points here. */
void accel_keep_module(void)
{
	__module_get(THIS_MODULE);
}

static int accel_module_event(struct notifier_block *nb, unsigned long event,
			      void *data)
{
	if (event == MODULE_STATE_GOING)
		accel_module_going(data);
	return NOTIFY_DONE;
}

static struct notifier_block accel_module_nb = {
	.notifier_call = accel_module_event,
};

int accel_notify_modules(void)
{
	return register_module_notifier(&accel_module_nb);
}

void accel_unnotify_modules(void)
{
	unregister_module_notifier(&accel_module_nb);
}

/* Waiting */

void accel_waitqueue_init(struct wait_queue_head *wq)
{
	init_waitqueue_head(wq);
}

void accel_wake_all(struct wait_queue_head *wq)
{
	wake_up_all(wq);
}

/**
 * accel_wait() - sleep until something is so
 * @wq: woken after it may have become so
 * @deadline_ns: CLOCK_MONOTONIC; S64_MAX is never
 * @done: whether it is so; must not sleep
 * @arg: for @done
 *
 * Return: 0, -ETIME, or -ERESTARTSYS when a signal came first.
 */
int accel_wait(struct wait_queue_head *wq, s64 deadline_ns,
	       bool (*done)(const void *arg), const void *arg)
{
	DEFINE_WAIT(wait);
	ktime_t deadline = ns_to_ktime(deadline_ns);
	int err = 0;

	for (;;) {
		long stop =
			prepare_to_wait_event(wq, &wait, TASK_INTERRUPTIBLE);

		if (done(arg))
			break;
		if (stop) {
			err = stop;
			break;
		}
		/* 0 when the deadline has passed, else a signal or a wake-up. */
		if (!schedule_hrtimeout_range(
			    deadline_ns == S64_MAX ? NULL : &deadline,
			    current->timer_slack_ns, HRTIMER_MODE_ABS)) {
			err = done(arg) ? 0 : -ETIME;
			break;
		}
	}
	finish_wait(wq, &wait);
	return err;
}

void accel_poll_wait(struct file *file, struct wait_queue_head *wq,
		     struct poll_table_struct *table)
{
	poll_wait(file, wq, table);
}

__poll_t accel_poll_flags(bool readable, bool gone)
{
	return (readable ? EPOLLIN | EPOLLRDNORM : 0) |
	       (gone ? EPOLLHUP | EPOLLERR : 0);
}

struct eventfd_ctx *accel_eventfd_get(int fd)
{
	return eventfd_ctx_fdget(fd);
}

void accel_eventfd_signal(struct eventfd_ctx *ctx)
{
	eventfd_signal(ctx);
}

/* The parent device */

struct pci_dev *accel_to_pci(struct device *dev)
{
#ifdef CONFIG_PCI
	return dev_is_pci(dev) ? to_pci_dev(dev) : NULL;
#else
	return NULL;
#endif
}

/**
 * accel_identity_fill() - describe the parent of an accelerator
 * @id: zeroed; what the parent tells is written
 * @dev: the parent, bound to its driver
 */
void accel_identity_fill(struct accel_info_identity *id, struct device *dev)
{
	struct pci_dev *pdev = accel_to_pci(dev);
	int node = dev_to_node(dev);

	if (pdev) {
		id->flags |= ACCEL_IDENTITY_PCI;
		id->function = pdev->is_virtfn ? ACCEL_FUNCTION_VF :
						 ACCEL_FUNCTION_PF;
		id->pci_vendor = pdev->vendor;
		id->pci_device = pdev->device;
		id->pci_subvendor = pdev->subsystem_vendor;
		id->pci_subdevice = pdev->subsystem_device;
	}
	if (node != NUMA_NO_NODE) {
		id->flags |= ACCEL_IDENTITY_NUMA;
		id->numa_node = node;
	}
	strscpy(id->parent, dev_name(dev));
	if (dev->bus)
		strscpy(id->bus, dev->bus->name);
	if (dev->driver)
		strscpy(id->driver, dev->driver->name);
}

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
