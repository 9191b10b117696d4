// SPDX-License-Identifier: GPL-2.0
/*
 * A user whose memory never answers: a page that userfaultfd or a FUSE file
 * holds back for as long as the user likes. A call that is stuck on it must
 * hold up nobody but its caller: the device can be taken away meanwhile.
 */

#include "accel_test.h"
#include "kselftest_harness.h"
#include "shape.h"

#include <linux/fuse.h>
#include <linux/userfaultfd.h>
#include <sys/mount.h>
#include <sys/syscall.h>

#define SIZE 4096
#define MOUNT "/tmp/accel-fuse"

enum kind { ANONYMOUS, SHMEM, FUSE };

/* A page that does not answer before it is released. */
struct page {
	enum kind kind;
	unsigned char *at;
	int control;
	pthread_t server;
};

static int uffd_open(struct page *page, unsigned long long mode)
{
	struct uffdio_api api = { .api = UFFD_API };
	struct uffdio_register range = {
		.range = { (uintptr_t)page->at, SIZE },
		.mode = mode,
	};

	page->control = syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK);
	if (page->control < 0)
		return -errno;
	if (mode & UFFDIO_REGISTER_MODE_WP)
		api.features = UFFD_FEATURE_PAGEFAULT_FLAG_WP |
			       UFFD_FEATURE_WP_HUGETLBFS_SHMEM;
	if (ioctl(page->control, UFFDIO_API, &api) ||
	    ioctl(page->control, UFFDIO_REGISTER, &range))
		return -errno;
	return 0;
}

static int memory_open(struct page *page)
{
	int fd = -1;

	if (page->kind == SHMEM) {
		fd = memfd_create("accel", MFD_CLOEXEC);
		if (fd < 0 || ftruncate(fd, SIZE))
			return -errno;
	}
	page->at = mmap(NULL, SIZE, PROT_READ | PROT_WRITE,
			page->kind == SHMEM ? MAP_SHARED :
					      MAP_PRIVATE | MAP_ANONYMOUS,
			fd, 0);
	if (fd >= 0)
		close(fd);
	return page->at == MAP_FAILED ? -ENOMEM : 0;
}

struct fuse_answer {
	struct fuse_out_header header;
	union {
		struct fuse_init_out init;
		struct fuse_entry_out entry;
		struct fuse_attr_out attr;
		struct fuse_open_out open;
	};
};

static void fuse_attributes(struct fuse_attr *attr, uint64_t inode)
{
	attr->ino = inode;
	attr->nlink = 1;
	attr->mode = inode == 1 ? S_IFDIR | 0755 : S_IFREG | 0644;
	attr->size = inode == 1 ? 0 : SIZE;
	attr->blksize = SIZE;
}

/* A file system of one file that has a size, and never any content. */
static void *fuse_server(void *data)
{
	static union {
		struct fuse_in_header header;
		unsigned char space[FUSE_MIN_READ_BUFFER + 65536];
	} request;
	int fd = (intptr_t)data;

	while (read(fd, &request, sizeof(request)) > 0) {
		struct fuse_answer answer = {
			.header.unique = request.header.unique,
		};
		size_t size = 0;

		switch (request.header.opcode) {
		case FUSE_INIT:
			answer.init.major = FUSE_KERNEL_VERSION;
			answer.init.minor = FUSE_KERNEL_MINOR_VERSION;
			answer.init.max_write = 4096;
			size = sizeof(answer.init);
			break;
		case FUSE_LOOKUP:
			answer.entry.nodeid = 2;
			answer.entry.attr_valid = 1000;
			answer.entry.entry_valid = 1000;
			fuse_attributes(&answer.entry.attr, 2);
			size = sizeof(answer.entry);
			break;
		case FUSE_GETATTR:
			answer.attr.attr_valid = 1000;
			fuse_attributes(&answer.attr.attr,
					request.header.nodeid);
			size = sizeof(answer.attr);
			break;
		case FUSE_OPEN:
			size = sizeof(answer.open);
			break;
		case FUSE_READ:
		case FUSE_FORGET:
		case FUSE_BATCH_FORGET:
		case FUSE_INTERRUPT:
		case FUSE_RELEASE:
			continue;
		default:
			answer.header.error = -EOPNOTSUPP;
		}
		answer.header.len = sizeof(answer.header) + size;
		if (write(fd, &answer, answer.header.len) < 0)
			break;
	}
	return NULL;
}

static int fuse_start(struct page *page)
{
	char options[128];
	int fd;

	page->control = open("/dev/fuse", O_RDWR | O_CLOEXEC);
	if (page->control < 0)
		return -errno;
	mkdir(MOUNT, 0755);
	snprintf(options, sizeof(options),
		 "fd=%d,rootmode=40000,user_id=0,group_id=0", page->control);
	if (mount("accel", MOUNT, "fuse", 0, options))
		return -errno;
	if (pthread_create(&page->server, NULL, fuse_server,
			   (void *)(intptr_t)page->control))
		return -EAGAIN;
	fd = open(MOUNT "/file", O_RDWR | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	page->at = mmap(NULL, SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd, 0);
	close(fd);
	return page->at == MAP_FAILED ? -ENOMEM : 0;
}

static int page_open(struct page *page, enum kind kind)
{
	int ret;

	page->kind = kind;
	page->control = -1;
	if (kind == FUSE)
		return fuse_start(page);
	ret = memory_open(page);
	return ret ? ret : uffd_open(page, UFFDIO_REGISTER_MODE_MISSING);
}

/* A page with contents, that can be read and whose writing does not end. */
static int page_open_readable(struct page *page, enum kind kind,
			      const void *contents, size_t size)
{
	struct uffdio_writeprotect protect = {
		.mode = UFFDIO_WRITEPROTECT_MODE_WP,
	};
	int ret;

	page->kind = kind;
	page->control = -1;
	ret = memory_open(page);
	if (ret)
		return ret;
	memcpy(page->at, contents, size);
	ret = uffd_open(page, UFFDIO_REGISTER_MODE_WP);
	protect.range.start = (uintptr_t)page->at;
	protect.range.len = SIZE;
	if (!ret && ioctl(page->control, UFFDIO_WRITEPROTECT, &protect))
		ret = -errno;
	return ret;
}

static void page_release(struct page *page)
{
	if (page->control < 0)
		return;
	if (page->kind == FUSE) {
		/* Ends the connection, and with it the server's read. */
		umount2(MOUNT, MNT_FORCE);
		umount2(MOUNT, MNT_DETACH);
		pthread_cancel(page->server);
		pthread_join(page->server, NULL);
		rmdir(MOUNT);
	}
	close(page->control);
	page->control = -1;
}

static void print_time(struct shape *shape, enum kind kind, const char *test)
{
	static const char *const kinds[] = { "anonymous", "shmem", "fuse" };
	char name[64];

	snprintf(name, sizeof(name), "%s.%s", kinds[kind], test);
	shape_print(shape, name);
}

FIXTURE(hostile_pages)
{
	int fd;
	uint32_t buffer;
	uint32_t timeline;
	unsigned char *map;
	struct page page;
	struct accel_call call;
	struct shape shape;
};

FIXTURE_VARIANT(hostile_pages)
{
	enum kind kind;
};

FIXTURE_VARIANT_ADD(hostile_pages, anonymous){
	.kind = ANONYMOUS,
};

FIXTURE_VARIANT_ADD(hostile_pages, shmem){
	.kind = SHMEM,
};

FIXTURE_VARIANT_ADD(hostile_pages, fuse){
	.kind = FUSE,
};

FIXTURE_SETUP(hostile_pages)
{
	ASSERT_TRUE(accel_target() != NULL);
	self->fd = accel_open(O_RDWR | O_CLOEXEC);
	ASSERT_LE(0, self->fd);
	ASSERT_EQ(0, accel_timeline_create(self->fd, &self->timeline));
	self->map = accel_buffer_new(self->fd, 4096, &self->buffer);
	ASSERT_TRUE(self->map != NULL);
	self->map[0] = 1;
	ASSERT_EQ(0, page_open(&self->page, variant->kind));
}

FIXTURE_TEARDOWN(hostile_pages)
{
	page_release(&self->page);
	munmap(self->map, 4096);
	close(self->fd);
	EXPECT_EQ(0, accel_restore());
	print_time(&self->shape, variant->kind, _metadata->name);
}

/*
 * Make the call, see that it is stuck, take the device away, let the call go.
 * Answers the number of the step that was not as it should be. The call is a
 * read() if there is no cmd.
 */
static int stuck(FIXTURE_DATA(hostile_pages) * self, unsigned long cmd,
		 void *arg)
{
	struct accel_info_state state;
	int ret = 0;

	if (cmd ? accel_call_start(&self->call, self->fd, cmd, arg) :
		  accel_call_read(&self->call, self->fd, arg, SIZE))
		return 1;
	if (accel_call_wait(&self->call, 100)) {
		accel_call_join(&self->call);
		return 2;
	}
	/* Others are not held up, on the same file neither. */
	if (accel_info(self->fd, ACCEL_INFO_STATE, 0, &state, sizeof(state)))
		ret = 3;
	if (shape_remove(&self->shape))
		ret = 4;
	if (!shape_in_time(&self->shape))
		ret = 5;
	if (accel_exists(accel_target()->compute))
		ret = 6;
	if (accel_call_wait(&self->call, 20))
		ret = 7;
	if (accel_info(self->fd, ACCEL_INFO_STATE, 0, &state, sizeof(state)) !=
	    -ENODEV)
		ret = 8;
	if (accel_touch(self->map) != SIGBUS)
		ret = 9;
	page_release(&self->page);
	if (!accel_call_wait(&self->call, 5000))
		return 10;
	accel_call_join(&self->call);
	return ret;
}

/* However it was let go: it worked, the device was gone, the page was. */
static bool ended(const struct accel_call *call)
{
	return call->result == 0 || call->result == -ENODEV ||
	       call->result == -EFAULT;
}

TEST_F(hostile_pages, argument)
{
	EXPECT_EQ(0, stuck(self, ACCEL_IOCTL_BUFFER_CREATE, self->page.at));
	EXPECT_TRUE(ended(&self->call));
}

/* The last bytes only: the first are there already. */
TEST_F(hostile_pages, argument_end)
{
	struct accel_info *info;
	unsigned char *two;

	if (variant->kind == ANONYMOUS) {
		/* An ordinary page right before the one that does not answer. */
		two = mmap(NULL, 2 * SIZE, PROT_NONE,
			   MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
		ASSERT_TRUE(two != MAP_FAILED);
		page_release(&self->page);
		self->page.at = mmap(two + SIZE, SIZE, PROT_READ | PROT_WRITE,
				     MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED,
				     -1, 0);
		ASSERT_EQ(0,
			  uffd_open(&self->page, UFFDIO_REGISTER_MODE_MISSING));
	} else {
		two = mmap(NULL, 2 * SIZE, PROT_NONE,
			   MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
		ASSERT_TRUE(two != MAP_FAILED);
		ASSERT_TRUE(mremap(self->page.at, SIZE, SIZE,
				   MREMAP_MAYMOVE | MREMAP_FIXED,
				   two + SIZE) == two + SIZE);
		self->page.at = two + SIZE;
		if (variant->kind == SHMEM) {
			/* The move took the page from its userfaultfd. */
			close(self->page.control);
			ASSERT_EQ(0, uffd_open(&self->page,
					       UFFDIO_REGISTER_MODE_MISSING));
		}
	}
	ASSERT_EQ(0, mprotect(two, SIZE, PROT_READ | PROT_WRITE));
	info = (void *)(two + SIZE - offsetof(struct accel_info, ptr));
	info->query = ACCEL_INFO_STATE;
	info->size = sizeof(struct accel_info_state);
	EXPECT_EQ(0, stuck(self, ACCEL_IOCTL_INFO, info));
	EXPECT_TRUE(ended(&self->call));
}

TEST_F(hostile_pages, answer)
{
	struct accel_info info = {
		.query = ACCEL_INFO_STATE,
		.size = sizeof(struct accel_info_state),
		.ptr = (uintptr_t)self->page.at,
	};

	EXPECT_EQ(0, stuck(self, ACCEL_IOCTL_INFO, &info));
	EXPECT_TRUE(ended(&self->call));
}

/* Who reads events has taken one, which holds up nothing. */
TEST_F(hostile_pages, events)
{
	struct accel_event_state event;

	ASSERT_EQ(0, accel_events(self->fd, 1 << ACCEL_EVENT_STATE, NULL));
	EXPECT_EQ(0, stuck(self, 0, self->page.at));
	if (self->call.result == -EFAULT) {
		/* It could not be told, and is here. */
		EXPECT_EQ(sizeof(event),
			  accel_read(self->fd, &event, sizeof(event)));
		EXPECT_EQ(1, event.header.sequence);
		EXPECT_EQ(sizeof(event),
			  accel_read(self->fd, &event, sizeof(event)));
	} else {
		/* With the page that it was given it went on to the end. */
		EXPECT_EQ(2 * sizeof(event), self->call.result);
		memcpy(&event, self->page.at + sizeof(event), sizeof(event));
	}
	EXPECT_EQ(2, event.header.sequence);
	EXPECT_EQ(ACCEL_STATE_UNPLUGGED, event.state);
	EXPECT_EQ(-ENODEV, accel_read(self->fd, &event, sizeof(event)));
}

TEST_F(hostile_pages, events_of_others)
{
	struct accel_event_state event;
	struct accel_call call;

	ASSERT_EQ(0, accel_events(self->fd, 1 << ACCEL_EVENT_STATE, NULL));
	ASSERT_EQ(0, accel_call_read(&call, self->fd, self->page.at, SIZE));
	EXPECT_FALSE(accel_call_wait(&call, 50));
	ASSERT_EQ(0, accel_events(self->fd, 1 << ACCEL_EVENT_LOST, NULL));
	ASSERT_EQ(0, accel_events(self->fd, 1 << ACCEL_EVENT_STATE, NULL));
	EXPECT_EQ(sizeof(event), accel_read(self->fd, &event, sizeof(event)));
	EXPECT_EQ(2, event.header.sequence);
	page_release(&self->page);
	ASSERT_TRUE(accel_call_wait(&call, 5000));
	accel_call_join(&call);
	EXPECT_TRUE(call.result == sizeof(event) || call.result == -EFAULT);
}

TEST_F(hostile_pages, nested_array)
{
	struct accel_edu_factorial factorial = {
		.numbers = (uintptr_t)self->page.at,
		.count = 16,
		.timeline = self->timeline,
		.dst = self->buffer,
	};
	uint64_t partial[16];
	struct accel_mock_sum sum = {
		.values = (uintptr_t)self->page.at,
		.partial = (uintptr_t)partial,
		.count = 16,
	};
	struct accel_npu_submit submit = {
		.jobs = (uintptr_t)self->page.at,
		.count = 16,
		.timeline = self->timeline,
	};

	switch (accel_target()->kind) {
	case ACCEL_EDU:
		EXPECT_EQ(0,
			  stuck(self, ACCEL_EDU_IOCTL_FACTORIAL, &factorial));
		break;
	case ACCEL_MOCK:
		EXPECT_EQ(0, stuck(self, ACCEL_MOCK_IOCTL_SUM, &sum));
		break;
	case ACCEL_NPU:
		EXPECT_EQ(0, stuck(self, ACCEL_NPU_IOCTL_SUBMIT, &submit));
		break;
	}
	EXPECT_TRUE(ended(&self->call));
}

/* An array that is written: only the mock driver has one. */
TEST_F(hostile_pages, nested_answer)
{
	uint64_t values[16] = {};
	struct accel_mock_sum sum = {
		.values = (uintptr_t)values,
		.partial = (uintptr_t)self->page.at,
		.count = 16,
	};
	struct accel_info info = {
		.query = ACCEL_INFO_IDENTITY,
		.size = 4096,
		.ptr = (uintptr_t)self->page.at,
	};

	/* The others' equivalent: an answer and its zeroes. */
	EXPECT_EQ(0, accel_target()->kind == ACCEL_MOCK ?
			     stuck(self, ACCEL_MOCK_IOCTL_SUM, &sum) :
			     stuck(self, ACCEL_IOCTL_INFO, &info));
	EXPECT_TRUE(ended(&self->call));
}

/* The thread is killed on the page; nothing of it stays. */
TEST_F(hostile_pages, killed)
{
	int status;
	pid_t pid;

	/* A server thread does not survive a fork; this needs none. */
	pid = fork();
	ASSERT_LE(0, pid);
	if (!pid) {
		struct page page = {};

		if (page_open(&page, variant->kind == FUSE ? ANONYMOUS :
							     variant->kind))
			_exit(1);
		accel_ioctl(self->fd, ACCEL_IOCTL_BUFFER_CREATE, page.at);
		_exit(2);
	}
	accel_sleep_ms(100);
	ASSERT_EQ(0, waitpid(pid, &status, WNOHANG));
	ASSERT_EQ(0, shape_remove(&self->shape));
	EXPECT_TRUE(shape_in_time(&self->shape));
	kill(pid, SIGKILL);
	ASSERT_EQ(pid, waitpid(pid, &status, 0));
	EXPECT_TRUE(WIFSIGNALED(status));
}

FIXTURE(hostile_writes)
{
	FIXTURE_DATA(hostile_pages) user;
};

FIXTURE_VARIANT(hostile_writes)
{
	enum kind kind;
};

FIXTURE_VARIANT_ADD(hostile_writes, anonymous){
	.kind = ANONYMOUS,
};

FIXTURE_VARIANT_ADD(hostile_writes, shmem){
	.kind = SHMEM,
};

FIXTURE_SETUP(hostile_writes)
{
	ASSERT_TRUE(accel_target() != NULL);
	self->user.page.control = -1;
	self->user.fd = accel_open(O_RDWR | O_CLOEXEC);
	ASSERT_LE(0, self->user.fd);
	ASSERT_EQ(0,
		  accel_timeline_create(self->user.fd, &self->user.timeline));
	self->user.map =
		accel_buffer_new(self->user.fd, 4096, &self->user.buffer);
	ASSERT_TRUE(self->user.map != NULL);
	self->user.map[0] = 1;
}

FIXTURE_TEARDOWN(hostile_writes)
{
	page_release(&self->user.page);
	munmap(self->user.map, 4096);
	close(self->user.fd);
	EXPECT_EQ(0, accel_restore());
	print_time(&self->user.shape, variant->kind, _metadata->name);
}

/* The call has done its work and cannot say so. */
TEST_F(hostile_writes, buffer_create)
{
	struct accel_buffer_create create = { .size = 4096 };

	ASSERT_EQ(0, page_open_readable(&self->user.page, variant->kind,
					&create, sizeof(create)));
	EXPECT_EQ(0, stuck(&self->user, ACCEL_IOCTL_BUFFER_CREATE,
			   self->user.page.at));
	EXPECT_EQ(0, self->user.call.result);
	memcpy(&create, self->user.page.at, sizeof(create));
	EXPECT_NE(0, create.handle);
}

TEST_F(hostile_writes, timeline_wait)
{
	struct accel_timeline_wait wait = { .handle = self->user.timeline };

	ASSERT_EQ(0, page_open_readable(&self->user.page, variant->kind, &wait,
					sizeof(wait)));
	EXPECT_EQ(0, stuck(&self->user, ACCEL_IOCTL_TIMELINE_WAIT,
			   self->user.page.at));
	EXPECT_EQ(0, self->user.call.result);
}

TEST_F(hostile_writes, submit)
{
	uint32_t number = 3;
	struct accel_edu_factorial factorial = {
		.numbers = (uintptr_t)&number,
		.count = 1,
		.timeline = self->user.timeline,
		.dst = self->user.buffer,
	};
	struct accel_mock_submit submit = { .timeline = self->user.timeline };
	struct accel_npu_job job = { .address = ACCEL_NPU_ADDRESS_MIN,
				     .count = 1 };
	struct accel_npu_submit jobs = {
		.jobs = (uintptr_t)&job,
		.count = 1,
		.timeline = self->user.timeline,
	};
	const struct {
		unsigned long cmd;
		const void *arg;
	} submits[] = {
		[ACCEL_EDU] = { ACCEL_EDU_IOCTL_FACTORIAL, &factorial },
		[ACCEL_MOCK] = { ACCEL_MOCK_IOCTL_SUBMIT, &submit },
		[ACCEL_NPU] = { ACCEL_NPU_IOCTL_SUBMIT, &jobs },
	};
	unsigned long cmd = submits[accel_target()->kind].cmd;
	uint64_t point;

	/* The commands of the first are those of the second, on an NPU. */
	ASSERT_EQ(0, accel_submit(self->user.fd, self->user.timeline, &point));
	ASSERT_EQ(0, page_open_readable(&self->user.page, variant->kind,
					submits[accel_target()->kind].arg,
					_IOC_SIZE(cmd)));
	EXPECT_EQ(0, stuck(&self->user, cmd, self->user.page.at));
	EXPECT_EQ(0, self->user.call.result);
}

/* A waiter that is stopped is no reason to wait for it. */
TEST_F(hostile_writes, stopped_waiter)
{
	int status;
	pid_t pid;

	pid = fork();
	ASSERT_LE(0, pid);
	if (!pid)
		_exit(accel_timeline_wait(self->user.fd, self->user.timeline, 1,
					  FOREVER, NULL, NULL) == -ENODEV ?
			      0 :
			      1);
	accel_sleep_ms(50);
	kill(pid, SIGSTOP);
	ASSERT_EQ(pid, waitpid(pid, &status, WUNTRACED));
	ASSERT_TRUE(WIFSTOPPED(status));
	EXPECT_EQ(0, shape_remove(&self->user.shape));
	EXPECT_TRUE(shape_in_time(&self->user.shape));
	kill(pid, SIGCONT);
	ASSERT_EQ(pid, waitpid(pid, &status, 0));
	EXPECT_EQ(0, status);
}

TEST_HARNESS_MAIN
