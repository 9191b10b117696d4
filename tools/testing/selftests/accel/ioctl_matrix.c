// SPDX-License-Identifier: GPL-2.0
/*
 * Everything that may be wrong about any ioctl, asked of each of them: one
 * table of calls, one test per question.
 */

#include "calls.h"
#include "kselftest_harness.h"

FIXTURE(matrix)
{
	struct env env;
	unsigned char *page;
};

FIXTURE_SETUP(matrix)
{
	ASSERT_TRUE(accel_target() != NULL);
	ASSERT_EQ(0, env_open(&self->env));
	/* Two pages, the second of which is not there. */
	self->page = mmap(NULL, 8192, PROT_READ | PROT_WRITE,
			  MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	ASSERT_TRUE(self->page != MAP_FAILED);
	ASSERT_EQ(0, munmap(self->page + 4096, 4096));
}

FIXTURE_TEARDOWN(matrix)
{
	env_close(&self->env);
}

/* The table itself: its valid calls are valid. */
TEST_F(matrix, valid)
{
	const struct call *call;

	for (call = next_call(NULL); call; call = next_call(call)) {
		unsigned char arg[LONGEST] = {};

		ASSERT_EQ(0, call->fill(&self->env, arg));
		EXPECT_EQ(0, make_call(call, &self->env, arg, call->cmd))
		TH_LOG("%s", call->name);
	}
}

TEST_F(matrix, null)
{
	const struct call *call;

	for (call = next_call(NULL); call; call = next_call(call)) {
		EXPECT_EQ(-EFAULT, accel_ioctl(self->env.fd, call->cmd, NULL))
		TH_LOG("%s", call->name);
		EXPECT_EQ(-EFAULT, accel_ioctl(self->env.fd, call->cmd,
					       (void *)~(uintptr_t)15))
		TH_LOG("%s", call->name);
	}
	EXPECT_EQ(1, accel_fdinfo(self->env.fd, "accel-buffers"));
}

TEST_F(matrix, unknown_number)
{
	unsigned char arg[LONGEST] = {};
	const struct call *call;
	bool known[256] = {};

	for (call = next_call(NULL); call; call = next_call(call))
		known[_IOC_NR(call->cmd)] = true;
	for (unsigned int nr = 0; nr < 256; nr++) {
		if (known[nr])
			continue;
		EXPECT_EQ(-ENOTTY, accel_ioctl(self->env.fd,
					       _IOC(_IOC_READ | _IOC_WRITE,
						    ACCEL_IOCTL_TYPE, nr, 16),
					       arg))
		TH_LOG("number %#x", nr);
		EXPECT_EQ(-ENOTTY,
			  accel_ioctl(self->env.fd,
				      _IOC(_IOC_WRITE, ACCEL_IOCTL_TYPE, nr, 8),
				      arg))
		TH_LOG("number %#x", nr);
	}
}

/* Other subsystems' ioctls, DRM's 'd' among them, and our own misspelt. */
TEST_F(matrix, foreign)
{
	static const unsigned char types[] = {
		'd', 'T', 0x00, 0xff, 0xc0, 0xc2, ACCEL_IOCTL_TYPE ^ 0x80
	};
	const struct call *call;

	for (call = next_call(NULL); call; call = next_call(call)) {
		unsigned char arg[LONGEST] = {};
		unsigned int dir = _IOC_DIR(call->cmd);
		unsigned int nr = _IOC_NR(call->cmd);
		size_t size = _IOC_SIZE(call->cmd);

		ASSERT_EQ(0, call->fill(&self->env, arg));
		for (size_t i = 0; i < ARRAY_SIZE(types); i++) {
			EXPECT_EQ(-ENOTTY,
				  accel_ioctl(self->env.fd,
					      _IOC(dir, types[i], nr, size),
					      arg))
			TH_LOG("%s as %#x", call->name, types[i]);
		}
		for (unsigned int other = 0; other < 4; other++) {
			if (other == dir)
				continue;
			EXPECT_EQ(-ENOTTY,
				  accel_ioctl(self->env.fd,
					      _IOC(other, ACCEL_IOCTL_TYPE, nr,
						   size),
					      arg))
			TH_LOG("%s with direction %u", call->name, other);
		}
		if (call->undo)
			call->undo(&self->env, arg, -ENOTTY);
	}
}

/*
 * A structure of n bytes answers as the whole one does with zeroes from n on,
 * and nothing behind the n bytes is read or written.
 */
TEST_F(matrix, shorter)
{
	const struct call *call;

	for (call = next_call(NULL); call; call = next_call(call)) {
		size_t size = _IOC_SIZE(call->cmd);

		for (size_t n = 1; n < size; n++) {
			unsigned char whole[LONGEST] = {}, part[LONGEST] = {};
			struct env env;
			int expected, ret;

			/* Jobs of one file are limited: a file for each. */
			ASSERT_EQ(0, env_open(&env));
			ASSERT_EQ(0, call->fill(&env, whole));
			memset(whole + n, 0, LONGEST - n);
			expected = accel_ioctl(env.fd, call->cmd, whole);
			ASSERT_EQ(0, call->fill(&env, part));
			memset(part + n, 0xa5, LONGEST - n);
			ret = accel_ioctl(env.fd, resized(call->cmd, n), part);
			EXPECT_EQ(expected, ret)
			TH_LOG("%s of %zu bytes", call->name, n);
			for (size_t i = n; i < LONGEST; i++) {
				ASSERT_EQ(0xa5, part[i])
				TH_LOG("%s of %zu bytes wrote byte %zu",
				       call->name, n, i);
			}
			env_close(&env);
		}
	}
}

/* Without its last byte, which is zero or only written, every call works. */
TEST_F(matrix, shorter_by_one)
{
	const struct call *call;

	for (call = next_call(NULL); call; call = next_call(call)) {
		size_t size = _IOC_SIZE(call->cmd) - 1;
		unsigned char arg[LONGEST] = {};

		ASSERT_EQ(0, call->fill(&self->env, arg));
		EXPECT_EQ(0, make_call(call, &self->env, arg,
				       resized(call->cmd, size)))
		TH_LOG("%s", call->name);
	}
}

TEST_F(matrix, size_zero)
{
	const struct call *call;

	for (call = next_call(NULL); call; call = next_call(call)) {
		unsigned char arg[LONGEST], zeroes[LONGEST] = {};
		int expected, ret;

		memset(arg, 0xa5, sizeof(arg));
		expected = accel_ioctl(self->env.fd, call->cmd, zeroes);
		ret = accel_ioctl(self->env.fd, resized(call->cmd, 0), arg);
		EXPECT_TRUE(ret == expected || ret == -EINVAL || ret == -ENOTTY)
		TH_LOG("%s: %d, expected %d", call->name, ret, expected);
		for (size_t i = 0; i < sizeof(arg); i++) {
			ASSERT_EQ(0xa5, arg[i])
			TH_LOG("%s wrote", call->name);
		}
	}
}

TEST_F(matrix, longer)
{
	static const size_t more[] = { 1, 4, 8, 64, 4000, 16383 };
	static unsigned char arg[16384], exact[LONGEST];
	const struct call *call;

	for (call = next_call(NULL); call; call = next_call(call)) {
		size_t size = _IOC_SIZE(call->cmd);

		for (size_t i = 0; i < ARRAY_SIZE(more); i++) {
			size_t n = size + more[i];

			/* The number holds 14 bits of size. */
			if (n > 16383)
				n = 16383;
			memset(arg, 0, sizeof(arg));
			ASSERT_EQ(0, call->fill(&self->env, arg));
			EXPECT_EQ(0, make_call(call, &self->env, arg,
					       resized(call->cmd, n)))
			TH_LOG("%s of %zu bytes", call->name, n);
			for (size_t byte = size; byte < n; byte++)
				ASSERT_EQ(0, arg[byte]);
		}
		/* The answer is the same as that of the exact size. */
		memset(arg, 0, sizeof(arg));
		memset(exact, 0, sizeof(exact));
		if (!(_IOC_DIR(call->cmd) & _IOC_READ) || call->undo ||
		    call->keeps_job || call->counts)
			continue;
		ASSERT_EQ(0, call->fill(&self->env, exact));
		ASSERT_EQ(0, make_call(call, &self->env, exact, call->cmd));
		ASSERT_EQ(0, call->fill(&self->env, arg));
		ASSERT_EQ(0, make_call(call, &self->env, arg,
				       resized(call->cmd, size + 8)));
		EXPECT_EQ(0, memcmp(arg, exact, size))
		TH_LOG("%s", call->name);
	}
}

TEST_F(matrix, longer_with_more)
{
	static unsigned char arg[16384];
	const struct call *call;

	for (call = next_call(NULL); call; call = next_call(call)) {
		size_t size = _IOC_SIZE(call->cmd);
		static const size_t far[] = { 0, 1, 7, 8, 4095 };

		for (size_t i = 0; i < ARRAY_SIZE(far); i++) {
			memset(arg, 0, sizeof(arg));
			ASSERT_EQ(0, call->fill(&self->env, arg));
			arg[size + far[i]] = 1;
			EXPECT_EQ(-E2BIG, make_call(call, &self->env, arg,
						    resized(call->cmd,
							    size + far[i] + 1)))
			TH_LOG("%s, byte %zu", call->name, far[i]);
		}
	}
	EXPECT_EQ(1, accel_fdinfo(self->env.fd, "accel-buffers"));
}

/* Each bit of each reserved field and of each unknown flag, alone. */
TEST_F(matrix, reserved)
{
	const struct call *call;

	for (call = next_call(NULL); call; call = next_call(call)) {
		for (size_t i = 0; i < ARRAY_SIZE(call->zero); i++) {
			const struct zero *zero = &call->zero[i];

			for (size_t bit = 0; bit < 8 * zero->size; bit++) {
				unsigned char arg[LONGEST] = {};

				if (zero->known >> bit & 1)
					continue;
				ASSERT_EQ(0, call->fill(&self->env, arg));
				arg[zero->offset + bit / 8] |= 1 << bit % 8;
				EXPECT_EQ(-EINVAL, make_call(call, &self->env,
							     arg, call->cmd))
				TH_LOG("%s, byte %zu, bit %zu", call->name,
				       zero->offset, bit);
			}
		}
	}
	EXPECT_EQ(1, accel_fdinfo(self->env.fd, "accel-buffers"));
}

static bool on_control(const struct call *call)
{
	return call->cmd == ACCEL_IOCTL_INFO || call->cmd == ACCEL_IOCTL_EVENTS;
}

TEST_F(matrix, control_node)
{
	unsigned char arg[LONGEST] = {};
	const struct call *call;
	int fd;

	fd = accel_open_control(O_RDWR | O_CLOEXEC);
	ASSERT_LE(0, fd);
	for (call = next_call(NULL); call; call = next_call(call)) {
		int expected = on_control(call) ? 0 : -ENOTTY;

		memset(arg, 0, sizeof(arg));
		ASSERT_EQ(0, call->fill(&self->env, arg));
		EXPECT_EQ(expected, accel_ioctl(fd, call->cmd, arg))
		TH_LOG("%s", call->name);
		/* It is not even looked at. */
		if (expected) {
			EXPECT_EQ(-ENOTTY, accel_ioctl(fd, call->cmd, NULL))
			TH_LOG("%s", call->name);
		}
		if (call->undo)
			call->undo(&self->env, arg, -ENOTTY);
	}
	for (unsigned int nr = 1; nr < 256; nr++) {
		memset(arg, 0, sizeof(arg));
		if (nr == ACCEL_NR_EVENTS)
			continue;
		EXPECT_EQ(-ENOTTY, accel_ioctl(fd,
					       _IOC(_IOC_READ | _IOC_WRITE,
						    ACCEL_IOCTL_TYPE, nr, 24),
					       arg));
	}
	EXPECT_EQ(-ENODEV,
		  accel_mmap_errno(fd, 4096, PROT_READ, MAP_SHARED, 0));
	EXPECT_EQ(-ENODEV, accel_mmap_errno(fd, 4096, PROT_READ, MAP_SHARED,
					    ACCEL_MMAP_BUFFERS));
	close(fd);
}

/* On the last bytes of a page the argument is all there; one further it is not. */
TEST_F(matrix, end_of_page)
{
	const struct call *call;

	for (call = next_call(NULL); call; call = next_call(call)) {
		size_t size = _IOC_SIZE(call->cmd);
		unsigned char *arg = self->page + 4096 - size;

		memset(self->page, 0, 4096);
		ASSERT_EQ(0, call->fill(&self->env, arg));
		EXPECT_EQ(0, make_call(call, &self->env, arg, call->cmd))
		TH_LOG("%s", call->name);
		for (size_t past = 1; past < size; past += size > 8 ? 5 : 1) {
			EXPECT_EQ(-EFAULT, accel_ioctl(self->env.fd, call->cmd,
						       arg + past))
			TH_LOG("%s, %zu bytes past", call->name, past);
		}
	}
	EXPECT_EQ(1, accel_fdinfo(self->env.fd, "accel-buffers"));
}

TEST_F(matrix, unaligned)
{
	const struct call *call;

	for (call = next_call(NULL); call; call = next_call(call)) {
		for (size_t off = 1; off < 8; off += 2) {
			unsigned char arg[LONGEST] = {};

			ASSERT_EQ(0, call->fill(&self->env, arg));
			memcpy(self->page + off, arg, _IOC_SIZE(call->cmd));
			EXPECT_EQ(0, accel_ioctl(self->env.fd, call->cmd,
						 self->page + off))
			TH_LOG("%s at %zu", call->name, off);
			memcpy(arg, self->page + off, _IOC_SIZE(call->cmd));
			if (call->undo)
				call->undo(&self->env, arg, 0);
		}
	}
}

TEST_F(matrix, no_access)
{
	const struct call *call;

	for (call = next_call(NULL); call; call = next_call(call)) {
		ASSERT_EQ(0, mprotect(self->page, 4096, PROT_NONE));
		EXPECT_EQ(-EFAULT,
			  accel_ioctl(self->env.fd, call->cmd, self->page))
		TH_LOG("%s", call->name);
	}
	EXPECT_EQ(1, accel_fdinfo(self->env.fd, "accel-buffers"));
}

/*
 * An argument that can be read and not written: EFAULT, and nothing is left
 * behind but a job where that is documented.
 */
TEST_F(matrix, read_only)
{
	const struct call *call;

	for (call = next_call(NULL); call; call = next_call(call)) {
		bool reads = _IOC_DIR(call->cmd) & _IOC_READ;
		unsigned char arg[LONGEST] = {};
		uint64_t value;
		int ret;

		ASSERT_EQ(0, call->fill(&self->env, arg));
		memcpy(self->page, arg, sizeof(arg));
		ASSERT_EQ(0, mprotect(self->page, 4096, PROT_READ));
		ret = accel_ioctl(self->env.fd, call->cmd, self->page);
		ASSERT_EQ(0,
			  mprotect(self->page, 4096, PROT_READ | PROT_WRITE));
		EXPECT_EQ(reads ? -EFAULT : 0, ret) TH_LOG("%s", call->name);
		EXPECT_EQ(1, accel_fdinfo(self->env.fd, "accel-buffers"))
		TH_LOG("%s", call->name);
		if (!call->keeps_job)
			continue;
		ASSERT_EQ(0,
			  accel_timeline_wait(self->env.fd, self->env.timeline,
					      1, accel_now() + 5 * NSEC_PER_SEC,
					      &value, NULL))
		TH_LOG("%s ran no job", call->name);
		accel_timeline_destroy(self->env.fd, self->env.timeline);
		ASSERT_EQ(0, accel_timeline_create(self->env.fd,
						   &self->env.timeline));
	}
}

/* What the arguments point to can be as bad as they are. */
TEST_F(matrix, nested)
{
	struct accel_info info;
	struct accel_edu_factorial factorial;
	struct accel_npu_submit submit;
	struct accel_mock_sum sum;
	uint64_t value;

	fill_info(&self->env, memset(&info, 0, sizeof(info)));
	info.ptr = 0;
	EXPECT_EQ(-EFAULT, accel_ioctl(self->env.fd, ACCEL_IOCTL_INFO, &info));
	/* A pointer of 64 bits is one for 32-bit programs as well. */
	info.ptr = (uintptr_t)self->env.answer | 1ULL << 63;
	EXPECT_EQ(-EFAULT, accel_ioctl(self->env.fd, ACCEL_IOCTL_INFO, &info));
	info.ptr = (uintptr_t)self->page + 4096 - 8;
	EXPECT_EQ(-EFAULT, accel_ioctl(self->env.fd, ACCEL_IOCTL_INFO, &info));
	if (accel_target()->kind == ACCEL_NPU) {
		memset(&submit, 0, sizeof(submit));
		fill_npu_submit(&self->env, &submit);
		submit.jobs = 0;
		EXPECT_EQ(-EFAULT,
			  accel_ioctl(self->env.fd, ACCEL_NPU_IOCTL_SUBMIT,
				      &submit));
		submit.jobs = (uintptr_t)self->page + 4096 - 8;
		EXPECT_EQ(-EFAULT,
			  accel_ioctl(self->env.fd, ACCEL_NPU_IOCTL_SUBMIT,
				      &submit));
		submit.jobs = ~0ULL - 15;
		EXPECT_EQ(-EFAULT,
			  accel_ioctl(self->env.fd, ACCEL_NPU_IOCTL_SUBMIT,
				      &submit));
		ASSERT_EQ(0, accel_submit(self->env.fd, self->env.timeline,
					  &value));
		EXPECT_EQ(1, value);
		return;
	}
	if (accel_target()->kind == ACCEL_EDU) {
		memset(&factorial, 0, sizeof(factorial));
		fill_factorial(&self->env, &factorial);
		factorial.numbers = 0;
		EXPECT_EQ(-EFAULT,
			  accel_ioctl(self->env.fd, ACCEL_EDU_IOCTL_FACTORIAL,
				      &factorial));
		factorial.numbers = (uintptr_t)self->page + 4096 - 12;
		EXPECT_EQ(-EFAULT,
			  accel_ioctl(self->env.fd, ACCEL_EDU_IOCTL_FACTORIAL,
				      &factorial));
		factorial.numbers = ~0ULL - 3;
		EXPECT_EQ(-EFAULT,
			  accel_ioctl(self->env.fd, ACCEL_EDU_IOCTL_FACTORIAL,
				      &factorial));
		/* None of them was submitted. */
		ASSERT_EQ(0, accel_submit(self->env.fd, self->env.timeline,
					  &value));
		EXPECT_EQ(1, value);
		return;
	}
	memset(&sum, 0, sizeof(sum));
	fill_sum(&self->env, &sum);
	sum.values = (uintptr_t)self->page + 4096 - 8;
	EXPECT_EQ(-EFAULT,
		  accel_ioctl(self->env.fd, ACCEL_MOCK_IOCTL_SUM, &sum));
	fill_sum(&self->env, &sum);
	sum.partial = (uintptr_t)self->page + 4096 - 8;
	EXPECT_EQ(-EFAULT,
		  accel_ioctl(self->env.fd, ACCEL_MOCK_IOCTL_SUM, &sum));
	/* Without elements no pointer is looked at. */
	sum.count = 0;
	sum.values = 0;
	sum.partial = 0;
	EXPECT_EQ(0, accel_ioctl(self->env.fd, ACCEL_MOCK_IOCTL_SUM, &sum));
}

/* Nothing of another file: handles mean nothing there. */
TEST_F(matrix, handles_of_others)
{
	struct accel_timeline_wait wait = {};
	struct accel_buffer_mmap map = {};
	uint64_t point;
	int fd;

	fd = accel_open(O_RDWR | O_CLOEXEC);
	ASSERT_LE(0, fd);
	map.handle = self->env.buffer;
	EXPECT_EQ(-ENOENT, accel_ioctl(fd, ACCEL_IOCTL_BUFFER_MMAP, &map));
	EXPECT_EQ(-ENOENT, accel_buffer_destroy(fd, self->env.buffer));
	wait.handle = self->env.timeline;
	EXPECT_EQ(-ENOENT, accel_ioctl(fd, ACCEL_IOCTL_TIMELINE_WAIT, &wait));
	EXPECT_EQ(-ENOENT, accel_timeline_destroy(fd, self->env.timeline));
	EXPECT_EQ(-ENOENT, accel_timeline_eventfd(fd, self->env.timeline, 0,
						  self->env.eventfd));
	EXPECT_EQ(-ENOENT, accel_submit(fd, self->env.timeline, &point));
	close(fd);
}

/* Every call on a device that is gone, and what became of its nodes. */
TEST_F(matrix, gone)
{
	unsigned char arg[ARRAY_SIZE(calls)][LONGEST] = {};
	const struct call *call;
	int control, fd, opened;

	control = accel_open_control(O_RDWR | O_CLOEXEC);
	fd = self->env.fd;
	ASSERT_LE(0, control);
	for (call = next_call(NULL); call; call = next_call(call))
		ASSERT_EQ(0, call->fill(&self->env, arg[call - calls]));
	ASSERT_EQ(0, accel_remove());
	for (call = next_call(NULL); call; call = next_call(call)) {
		EXPECT_EQ(-ENODEV,
			  accel_ioctl(fd, call->cmd, arg[call - calls]))
		TH_LOG("%s", call->name);
		opened = accel_ioctl(control, call->cmd, arg[call - calls]);
		EXPECT_TRUE(opened == -ENODEV ||
			    (opened == -ENOTTY && !on_control(call)));
		opened = accel_ioctl(fd, call->cmd, NULL);
		EXPECT_TRUE(opened == -ENODEV || opened == -EFAULT);
	}
	opened = accel_open(O_RDWR);
	EXPECT_TRUE(opened == -ENODEV || opened == -ENXIO || opened == -ENOENT);
	close(control);
	close(fd);
	EXPECT_EQ(0, accel_restore());
	ASSERT_EQ(0, env_open(&self->env));
}

TEST_HARNESS_MAIN
