/* SPDX-License-Identifier: GPL-2.0 */
/*
 * What the core needs of C that the kernel's own Rust bindings do not have:
 * macros, inline functions that depend on the configuration, and the gate.
 * bindgen reads this file for bindings/.
 */
#ifndef _ACCEL_HELPERS_H
#define _ACCEL_HELPERS_H

#include <linux/atomic.h>
#include <linux/debugfs.h>
#include <linux/device.h>
#include <linux/eventfd.h>
#include <linux/fs.h>
#include <linux/hrtimer.h>
#include <linux/mm.h>
#include <linux/pci.h>
#include <linux/pid.h>
#include <linux/poll.h>
#include <linux/sched.h>
#include <linux/uidgid.h>
#include <linux/uio.h>
#include <linux/wait.h>
#include <linux/workqueue.h>

#include <accel/accel.h>

/* As constants, which they are not for bindgen on every architecture. */
enum {
	ACCEL_PMD_SHIFT = PMD_SHIFT,
	ACCEL_FMODE_NOWAIT = (__force int)FMODE_NOWAIT,
};

/* The state of a gate; 0 is open. */
enum {
	ACCEL_GATE_BLOCKED = 1 << 0,
	ACCEL_GATE_CLOSED = 1 << 1,
};

/**
 * struct accel_gate - lets operations in until it is blocked or closed
 * @entered: per CPU, for each kind of operation how many have entered on it
 * @left: likewise, how many have left; what lies behind @entered
 * @monitors: the first so many kinds pass when it is blocked
 * @kinds: kinds of operation
 * @state: bits of ACCEL_GATE_*
 * @drained: where those wait who wait for those inside
 * @dep_map: for lockdep, entered as a reader, drained as a writer
 *
 * See gate.c for how it works.
 */
struct accel_gate {
	unsigned long __percpu *entered;
	unsigned long __percpu *left;
	unsigned int monitors;
	unsigned int kinds;
	atomic_t state;
	wait_queue_head_t drained;
#ifdef CONFIG_DEBUG_LOCK_ALLOC
	struct lockdep_map dep_map;
#endif
};

int accel_gate_init(struct accel_gate *gate, unsigned int monitors,
		    unsigned int kinds);
void accel_gate_destroy(struct accel_gate *gate);
bool accel_gate_enter(struct accel_gate *gate, unsigned int kind);
void accel_gate_leave(struct accel_gate *gate, unsigned int kind);
void accel_gate_block(struct accel_gate *gate);
void accel_gate_unblock(struct accel_gate *gate);
bool accel_gate_is_blocked(const struct accel_gate *gate);
void accel_gate_settle(struct accel_gate *gate);
void accel_gate_close(struct accel_gate *gate);
bool accel_gate_drain(struct accel_gate *gate, bool monitors,
		      unsigned long timeout_ms);
unsigned long accel_gate_entered(const struct accel_gate *gate,
				 unsigned int kind);
unsigned long accel_gate_inside(const struct accel_gate *gate,
				unsigned int kind);
unsigned long accel_gate_uses(const struct accel_gate *gate,
			      unsigned int first);

#if IS_BUILTIN(CONFIG_KUNIT)
unsigned long accel_test_map(size_t size);
#endif
int accel_copy_in(void *dst, size_t ksize, unsigned long src, size_t usize);
int accel_copy_out(unsigned long dst, size_t usize, const void *src,
		   size_t ksize);
int accel_copy_out_zeroed(unsigned long dst, size_t usize, const void *src,
			  size_t ksize);
size_t accel_iter_count(const struct iov_iter *iter);
bool accel_may_wait(const struct kiocb *iocb);
unsigned long accel_index_nospec(unsigned long index, unsigned long size);

dev_t accel_mkdev(unsigned int major, unsigned int minor);
unsigned int accel_major(dev_t dev);
unsigned int accel_inode_minor(const struct inode *inode);
int accel_fs_mount(void);
void accel_fs_unmount(void);
struct inode *accel_fs_inode(void);

int accel_mmap_prepare(struct vm_area_desc *desc);
unsigned long accel_get_unmapped_area(struct file *file, unsigned long addr,
				      unsigned long len, unsigned long pgoff,
				      unsigned long flags);
bool accel_vmf_unlock(struct vm_fault *vmf);
bool accel_vmf_is_pmd(const struct vm_fault *vmf, unsigned int order);
vm_fault_t accel_vmf_insert_pmd(struct vm_fault *vmf, unsigned long pfn);
vm_fault_t accel_vmf_insert_registers(struct vm_area_struct *vma,
				      unsigned long addr, unsigned long pfn);
void accel_walk_vmas(struct address_space *mapping,
		     void (*found)(void *arg, const struct vm_area_struct *vma,
				   int pid),
		     void *arg);
void accel_sort(void *base, size_t count, size_t size,
		int (*compare)(const void *a, const void *b));
struct page *accel_pages_alloc(unsigned int order);
void *accel_page_address(struct page *page);
unsigned long accel_page_pfn(struct page *page);
bool accel_fatal_signal_pending(void);
void accel_cond_resched(void);
bool accel_within_module(const void *addr, const struct module *mod);
int accel_notify_modules(void);
void accel_unnotify_modules(void);
void accel_keep_module(void);
/* In Rust: the module's text is about to go. */
void accel_module_going(const struct module *mod);

void accel_waitqueue_init(struct wait_queue_head *wq);
void accel_wake_all(struct wait_queue_head *wq);
bool accel_wake_few(struct wait_queue_head *wq);
int accel_later_start(void);
void accel_later_stop(void);
struct workqueue_struct *accel_later_queue(void);
int accel_wait(struct wait_queue_head *wq, s64 deadline_ns,
	       bool (*done)(const void *arg), const void *arg);
void accel_wait_for(struct wait_queue_head *wq, bool (*done)(const void *arg),
		    const void *arg);
void accel_poll_wait(struct file *file, struct wait_queue_head *wq,
		     struct poll_table_struct *table);
__poll_t accel_poll_flags(bool readable, bool gone);
struct eventfd_ctx *accel_eventfd_get(int fd);
void accel_eventfd_signal(struct eventfd_ctx *ctx);

/**
 * struct accel_opener - who opened a file, as of then
 * @pid: the process, with a reference
 * @at_ns: when: CLOCK_MONOTONIC, to the tick
 * @uid: effective user id
 * @name: of the process, ends with NUL
 */
struct accel_opener {
	struct pid *pid;
	s64 at_ns;
	kuid_t uid;
	char name[TASK_COMM_LEN];
};

void accel_opener_get(struct accel_opener *opener);
void accel_opener_put(struct accel_opener *opener);
bool accel_opener_may_be_told(const struct accel_opener *opener);
u32 accel_opener_pid(const struct accel_opener *opener);
u32 accel_opener_uid(const struct accel_opener *opener);

void accel_work_init(struct delayed_work *work, work_func_t func);
void accel_work_queue(struct delayed_work *work, s64 at_ns);
void accel_work_queue_new(struct delayed_work *work, s64 at_ns);

bool accel_traced_begin(void);
void accel_traced_end(void);

void accel_dma_rmb(void);
void accel_dma_wmb(void);
int accel_dma_map(struct device *dev, struct page *page, size_t size,
		  dma_addr_t *address);
void accel_dma_unmap(struct device *dev, dma_addr_t address, size_t size);

struct attribute *accel_attribute_init(
	struct device_attribute *attr, const char *name, umode_t mode,
	ssize_t (*show)(struct device *dev, struct device_attribute *attr,
			char *buf),
	ssize_t (*store)(struct device *dev, struct device_attribute *attr,
			 const char *buf, size_t count));
void accel_group_init(struct attribute_group *group, const char *name,
		      struct attribute **attrs,
		      umode_t (*visible)(struct kobject *kobj,
					 struct attribute *attr, int index));

struct dentry *accel_debugfs_dir(const char *name, struct dentry *parent);
void accel_debugfs_file(const char *name, struct dentry *dir, uintptr_t key,
			const struct file_operations *fops);
void accel_debugfs_remove(struct dentry *dir);

struct pci_dev *accel_to_pci(struct device *dev);
int accel_bar_pfn(struct device *dev, unsigned int bar, u64 offset, u64 size,
		  unsigned long *pfn);
int accel_interrupt_request(unsigned int irq, const char *name, void *cookie);
bool accel_interrupt(void *cookie);
void accel_identity_fill(struct accel_info_identity *id, struct device *dev);

void accel_class_power(struct class *class);
void accel_class_device_end(struct device *dev);
void accel_pm_get(struct device *dev);
void accel_pm_put(struct device *dev);
void accel_pm_rest(struct device *dev);
int accel_pm_delay_ms(struct device *dev);
int accel_pm_start(struct device *dev, unsigned int delay_ms);
void accel_pci_power(struct device *dev, bool sleeps);
int accel_notify_pci(void);
void accel_unnotify_pci(void);
/* In Rust: of a node's class device. */
int accel_device_sleep(struct device *dev);
void accel_device_wake(struct device *dev);
void accel_device_shutdown(struct device *dev);
/* In Rust: of a parent; whether it has accelerators that are concerned. */
bool accel_bus_trouble(struct device *dev);
bool accel_bus_recovered(struct device *dev);
bool accel_bus_lets_go(struct device *dev, bool go);

#endif /* _ACCEL_HELPERS_H */
