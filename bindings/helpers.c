// SPDX-License-Identifier: GPL-2.0
/*
 * Macros and inline functions of the kernel, made callable from Rust, and the
 * few things that are a line of C and a page of Rust. No policy in here.
 */
#include <linux/capability.h>
#include <linux/cred.h>
#include <linux/dma-mapping.h>
#include <linux/file.h>
#include <linux/interrupt.h>
#include <linux/jiffies.h>
#include <linux/kcov.h>
#include <linux/mount.h>
#include <linux/module.h>
#include <linux/nospec.h>
#include <linux/overflow.h>
#include <linux/pm_runtime.h>
#include <linux/pseudo_fs.h>
#include <linux/sched/signal.h>
#include <linux/slab.h>
#include <linux/sort.h>
#include <linux/uaccess.h>
#include <linux/user_namespace.h>

#include "helpers.h"

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
 * Shared, never executable, page frames rather than pages. What a driver shows
 * is not inherited: its end and its resets wait until it is unmapped, and a
 * fork cannot be refused.
 *
 * Return: 0, -EINVAL for a private mapping, -EACCES for an executable one.
 */
int accel_mmap_prepare(struct vm_area_desc *desc)
{
	if (desc->pgoff < ACCEL_MMAP_BUFFERS >> PAGE_SHIFT)
		vma_desc_set_flags(desc, VMA_DONTCOPY_BIT);
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
 * accel_vmf_unlock() - let go of what the kernel holds for a fault, to wait
 * @vmf: a fault, but not a huge one
 *
 * Return: whether it did: the area may be gone then, and the fault has to end
 * with VM_FAULT_RETRY.
 */
bool accel_vmf_unlock(struct vm_fault *vmf)
{
	/* Under the lock of the area alone the kernel calls for huge ones only. */
	if (!fault_flag_allow_retry_first(vmf->flags) ||
	    (vmf->flags & (FAULT_FLAG_RETRY_NOWAIT | FAULT_FLAG_VMA_LOCK)))
		return false;
	mmap_read_unlock(vmf->vma->vm_mm);
	return true;
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

/**
 * accel_vmf_insert_registers() - answer a fault with one page of registers
 * @vma: of the fault
 * @addr: in it
 * @pfn: page frame of a BAR
 *
 * Uncached, unless the kernel itself maps the page otherwise: two mappings of
 * one page must not differ. In a guest with encrypted memory, not encrypted.
 *
 * Return: VM_FAULT_NOPAGE, or an error.
 */
vm_fault_t accel_vmf_insert_registers(struct vm_area_struct *vma,
				      unsigned long addr, unsigned long pfn)
{
	return vmf_insert_pfn_prot(
		vma, addr, pfn,
		pgprot_decrypted(pgprot_noncached(vma->vm_page_prot)));
}

static int accel_mm_pid(const struct mm_struct *mm)
{
	int pid = 0;

#ifdef CONFIG_MEMCG
	struct task_struct *owner;

	rcu_read_lock();
	owner = rcu_dereference(mm->owner);
	if (owner)
		pid = task_tgid_vnr(owner);
	rcu_read_unlock();
#endif
	return pid;
}

/**
 * accel_walk_vmas() - find what is mapped of an address space
 * @mapping: the address space
 * @found: called for each area, which does not change meanwhile, and with the
 *	process that it belongs to, 0 if that is not known; must not allocate,
 *	as reclaim takes the same lock
 * @arg: for @found
 */
void accel_walk_vmas(struct address_space *mapping,
		     void (*found)(void *arg, const struct vm_area_struct *vma,
				   int pid),
		     void *arg)
{
	struct rb_node *node;

	i_mmap_lock_read(mapping);
	for (node = rb_first_cached(&mapping->i_mmap); node;
	     node = rb_next(node)) {
		struct vm_area_struct *vma =
			rb_entry(node, struct vm_area_struct, shared.rb);

		found(arg, vma, accel_mm_pid(vma->vm_mm));
	}
	i_mmap_unlock_read(mapping);
}

void accel_sort(void *base, size_t count, size_t size,
		int (*compare)(const void *a, const void *b))
{
	sort(base, count, size, compare, NULL);
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

/**
 * accel_wait_for() - sleep until something is so, whatever signals come
 * @wq: woken after it may have become so
 * @done: whether it is so; must not sleep
 * @arg: for @done
 */
void accel_wait_for(struct wait_queue_head *wq, bool (*done)(const void *arg),
		    const void *arg)
{
	wait_event(*wq, done(arg));
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

/* Who opens */

/**
 * accel_opener_get() - who is running
 * @opener: all of it is written
 */
void accel_opener_get(struct accel_opener *opener)
{
	opener->pid = get_pid(task_tgid(current));
	opener->at_ns = ktime_get_coarse_ns();
	opener->uid = current_euid();
	/* It may be changing; its last byte never is. */
	memcpy(opener->name, current->group_leader->comm, TASK_COMM_LEN);
}

void accel_opener_put(struct accel_opener *opener)
{
	put_pid(opener->pid);
}

/**
 * accel_opener_may_be_told() - may the one who is running be told of an opener
 * @opener: who opened
 *
 * Who may not is told less, and not refused: nothing for the audit log.
 *
 * Return: whether it is the same user, or may administer the whole system.
 */
bool accel_opener_may_be_told(const struct accel_opener *opener)
{
	return uid_eq(opener->uid, current_euid()) ||
	       ns_capable_noaudit(&init_user_ns, CAP_SYS_ADMIN);
}

/**
 * accel_opener_pid() - a process's number where the one who is running is
 * @opener: who opened
 *
 * Return: the number; 0 when it has none there, or has ended: the number may be
 * somebody else's by now.
 */
u32 accel_opener_pid(const struct accel_opener *opener)
{
	if (!pid_has_task(opener->pid, PIDTYPE_TGID))
		return 0;
	return pid_vnr(opener->pid);
}

u32 accel_opener_uid(const struct accel_opener *opener)
{
	return from_kuid_munged(current_user_ns(), opener->uid);
}

/* Work that is done at a time */

void accel_work_init(struct delayed_work *work, work_func_t func)
{
	INIT_DELAYED_WORK(work, func);
}

static unsigned long accel_work_delay(s64 at_ns)
{
	s64 now_ns = ktime_get();
	u64 delay = 0;

	if (at_ns > now_ns)
		delay = nsecs_to_jiffies64(at_ns - now_ns) + 1;
	return min_t(u64, delay, MAX_JIFFY_OFFSET);
}

/**
 * accel_work_queue() - have a work's function called, and not when it was to be
 * @work: the work
 * @at_ns: CLOCK_MONOTONIC; what has passed is now
 *
 * The call comes up to two jiffies late; and early where jiffies lag behind the
 * clock.
 */
void accel_work_queue(struct delayed_work *work, s64 at_ns)
{
	/* It may take long: not on a queue that others wait for. */
	mod_delayed_work(system_dfl_long_wq, work, accel_work_delay(at_ns));
}

/**
 * accel_work_queue_new() - have a work's function called, unless it is to be
 * @work: the work
 * @at_ns: as for accel_work_queue()
 */
void accel_work_queue_new(struct delayed_work *work, s64 at_ns)
{
	queue_delayed_work(system_dfl_long_wq, work, accel_work_delay(at_ns));
}

/* Tracing */

#ifdef CONFIG_KCOV
/* What programs give to KCOV_REMOTE_ENABLE to see what our threads execute. */
#define ACCEL_KCOV_HANDLE kcov_remote_handle(KCOV_SUBSYSTEM_COMMON, 0xacce1)

/**
 * accel_traced_begin() - let KCOV see what a thread of the kernel does from here
 *
 * Return: whether accel_traced_end() has to be called. Programs trace themselves,
 * and sections do not nest.
 */
bool accel_traced_begin(void)
{
	if (!(current->flags & PF_KTHREAD) || current->kcov_mode)
		return false;
	kcov_remote_start(ACCEL_KCOV_HANDLE);
	return true;
}

void accel_traced_end(void)
{
	kcov_remote_stop();
}
#else
bool accel_traced_begin(void)
{
	return false;
}

void accel_traced_end(void)
{
}
#endif

/* DMA */

void accel_dma_rmb(void)
{
	dma_rmb();
}

void accel_dma_wmb(void)
{
	dma_wmb();
}

/**
 * accel_dma_map() - map pages for a device that shares them with the CPU
 * @dev: the device, bound; it must not be dma_addressing_limited()
 * @page: first of the pages
 * @size: bytes
 * @address: where the device finds them
 *
 * Return: 0 or -ENOMEM; the latter also where what the device accesses would be
 * a copy of the pages.
 */
int accel_dma_map(struct device *dev, struct page *page, size_t size,
		  dma_addr_t *address)
{
	*address = dma_map_page_attrs(dev, page, 0, size, DMA_BIDIRECTIONAL,
				      DMA_ATTR_REQUIRE_COHERENT |
					      DMA_ATTR_NO_WARN);
	return dma_mapping_error(dev, *address);
}

void accel_dma_unmap(struct device *dev, dma_addr_t address, size_t size)
{
	dma_unmap_page_attrs(dev, address, size, DMA_BIDIRECTIONAL,
			     DMA_ATTR_REQUIRE_COHERENT | DMA_ATTR_NO_WARN);
}

/* Attributes */

/**
 * accel_attribute_init() - describe a file in sysfs
 * @attr: zeroed
 * @name: kept
 * @mode: its permissions
 * @show: answers who may read
 * @store: answers who may write
 *
 * Return: what a group of attributes has a pointer to.
 */
struct attribute *accel_attribute_init(
	struct device_attribute *attr, const char *name, umode_t mode,
	ssize_t (*show)(struct device *dev, struct device_attribute *attr,
			char *buf),
	ssize_t (*store)(struct device *dev, struct device_attribute *attr,
			 const char *buf, size_t count))
{
	sysfs_attr_init(&attr->attr);
	attr->attr.name = name;
	attr->attr.mode = mode;
	if (mode & 0444)
		attr->show = show;
	if (mode & 0222)
		attr->store = store;
	return &attr->attr;
}

/**
 * accel_group_init() - describe some files in sysfs
 * @group: zeroed
 * @name: of their directory, or NULL
 * @attrs: ends with NULL, kept
 * @visible: the mode of one for a device, 0 if that has none
 */
void accel_group_init(struct attribute_group *group, const char *name,
		      struct attribute **attrs,
		      umode_t (*visible)(struct kobject *kobj,
					 struct attribute *attr, int index))
{
	group->name = name;
	group->attrs = attrs;
	group->is_visible = visible;
}

/* debugfs */

struct dentry *accel_debugfs_dir(const char *name, struct dentry *parent)
{
	struct dentry *dir = debugfs_create_dir(name, parent);

	if (!IS_ERR(dir))
		d_inode(dir)->i_mode &= ~0077;
	return dir;
}

/**
 * accel_debugfs_file() - add a file that its owner may read
 * @name: of the file
 * @dir: where, or an error
 * @key: the private data of its inode
 * @fops: of a module that is there for as long as the file is open; debugfs
 *	waits for its open only when it removes the file
 */
void accel_debugfs_file(const char *name, struct dentry *dir, uintptr_t key,
			const struct file_operations *fops)
{
	debugfs_create_file_unsafe(name, 0400, dir, (void *)key, fops);
}

void accel_debugfs_remove(struct dentry *dir)
{
	debugfs_remove(dir);
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

#ifdef CONFIG_PCI
/* Whoever writes the table of vectors has the device write anywhere. */
static int accel_bar_has_msix_table(struct pci_dev *pdev, unsigned int bar,
				    u64 start, u64 end)
{
	u64 first;
	u32 table;
	u16 flags;

	if (!pdev->msix_cap)
		return 0;
	pci_read_config_word(pdev, pdev->msix_cap + PCI_MSIX_FLAGS, &flags);
	pci_read_config_dword(pdev, pdev->msix_cap + PCI_MSIX_TABLE, &table);
	if (PCI_POSSIBLE_ERROR(flags) || PCI_POSSIBLE_ERROR(table))
		return -ENODEV;
	if ((table & PCI_MSIX_TABLE_BIR) != bar)
		return 0;
	first = table & PCI_MSIX_TABLE_OFFSET;
	return start < first + ((flags & PCI_MSIX_FLAGS_QSIZE) + 1) *
				       PCI_MSIX_ENTRY_SIZE &&
	       first < end;
}
#endif

/**
 * accel_bar_pfn() - find the page frames of a part of a BAR
 * @dev: a device on PCI
 * @bar: 0 to 5
 * @offset: bytes from the BAR's beginning
 * @size: bytes
 * @pfn: out, the first of the page frames, which follow each other
 *
 * Return: 0; -EOPNOTSUPP @dev is not on PCI; -EINVAL there is no such BAR of
 * memory, it is shorter, these are not whole pages, or the table of MSI-X
 * vectors lies there; -ENODEV the device does not answer.
 */
int accel_bar_pfn(struct device *dev, unsigned int bar, u64 offset, u64 size,
		  unsigned long *pfn)
{
#ifdef CONFIG_PCI
	struct pci_dev *pdev = accel_to_pci(dev);
	unsigned long flags;
	u64 end;
	int err;

	if (!pdev)
		return -EOPNOTSUPP;
	if (bar >= PCI_STD_NUM_BARS)
		return -EINVAL;
	flags = pci_resource_flags(pdev, bar);
	if (!(flags & IORESOURCE_MEM) || flags & IORESOURCE_UNSET)
		return -EINVAL;
	if (!size || check_add_overflow(offset, size, &end) ||
	    end > pci_resource_len(pdev, bar) ||
	    !PAGE_ALIGNED(pci_resource_start(pdev, bar) | offset | size))
		return -EINVAL;
	err = accel_bar_has_msix_table(pdev, bar, offset, end);
	if (err)
		return err < 0 ? err : -EINVAL;
	*pfn = PHYS_PFN(pci_resource_start(pdev, bar) + offset);
	return 0;
#else
	return -EOPNOTSUPP;
#endif
}

/*
 * Handlers return an enum, a type that Rust does not have: with kCFI the kernel
 * may not call a Rust function as one.
 */
static irqreturn_t accel_interrupt_thread(int irq, void *cookie)
{
	return IRQ_RETVAL(accel_interrupt(cookie));
}

/**
 * accel_interrupt_request() - have a thread call accel_interrupt()
 * @irq: the line
 * @name: stays valid until the line is freed
 * @cookie: what accel_interrupt() gets, and free_irq()
 *
 * Return: 0 or a negative errno.
 */
int accel_interrupt_request(unsigned int irq, const char *name, void *cookie)
{
	return request_threaded_irq(irq, NULL, accel_interrupt_thread,
				    IRQF_ONESHOT, name, cookie);
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
