// SPDX-License-Identifier: GPL-2.0
/*
 * User memory: copying in and out, for user.rs.
 */
#include <kunit/test-bug.h>
#include <kunit/test.h>
#include <linux/fault-inject-usercopy.h>
#include <linux/fs.h>
#include <linux/mman.h>
#include <linux/nospec.h>
#include <linux/uaccess.h>
#include <linux/uio.h>

#include "helpers.h"

/* Words are faster than a copy routine for what an ioctl carries. */
#define ACCEL_COPY_WORDS_MAX 256

static int copy_words_in(u64 *dst, const u64 __user *src, size_t size)
{
	size_t i;

	if (should_fail_usercopy() || !user_access_begin(src, size))
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

	if (should_fail_usercopy() || !user_access_begin(dst, size))
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

size_t accel_iter_count(const struct iov_iter *iter)
{
	return iov_iter_count(iter);
}

bool accel_may_wait(const struct kiocb *iocb)
{
	return !(iocb->ki_flags & IOCB_NOWAIT) &&
	       !(iocb->ki_filp->f_flags & O_NONBLOCK);
}

unsigned long accel_index_nospec(unsigned long index, unsigned long size)
{
	return array_index_nospec(index, size);
}

#if IS_BUILTIN(CONFIG_KUNIT)
/**
 * accel_test_map() - give the test that runs memory of user space
 * @size: bytes, which are zero
 *
 * Return: the address; 0 when there is none.
 */
unsigned long accel_test_map(size_t size)
{
	return kunit_vm_mmap(kunit_get_current_test(), NULL, 0, size,
			     PROT_READ | PROT_WRITE,
			     MAP_ANONYMOUS | MAP_PRIVATE, 0);
}
#endif
