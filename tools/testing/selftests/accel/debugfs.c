// SPDX-License-Identifier: GPL-2.0
/*
 * What root sees in debugfs: who has the device open, and for what; and that
 * it is root only, and holds nothing up when the device goes.
 */

#include "accel_test.h"
#include "kselftest_harness.h"

#include <dirent.h>
#include <sys/mount.h>

/* Longest that taking a device away may take, on a slow machine too. */
#define REMOVE_MS 5000
#define DEBUGFS "/sys/kernel/debug"
#define READERS 4

static const char *const files[] = {
	"clients", "contexts", "buffers", "mappings", "history", "operations",
};

static void debug_path(char path[256], const char *name)
{
	snprintf(path, 256, DEBUGFS "/%s/accel%u/%s", accel_class(),
		 accel_target()->number, name);
}

/* A table: its first line names columns, which tabs divide. */
struct table {
	char text[65536];
	char *cells[512][8];
	int rows;
	int columns;
};

static int read_all(const char *name, char *text, size_t size)
{
	char path[256];
	size_t have = 0;
	ssize_t n;
	int fd;

	debug_path(path, name);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	/* In small pieces: what is read is one text all the same. */
	while ((n = read(fd, text + have,
			 size - 1 - have > 7 ? 7 : size - 1 - have)) > 0)
		have += n;
	n = n < 0 ? -errno : 0;
	close(fd);
	text[have] = '\0';
	return n;
}

static int read_table(const char *name, struct table *table)
{
	char *line, *lines, *cell, *cells;
	int ret, column;

	ret = read_all(name, table->text, sizeof(table->text));
	if (ret)
		return ret;
	table->rows = 0;
	table->columns = 0;
	lines = table->text;
	while ((line = strsep(&lines, "\n")) && *line) {
		if (table->rows == ARRAY_SIZE(table->cells))
			return -E2BIG;
		column = 0;
		cells = line;
		while ((cell = strsep(&cells, "\t")) && column < 8)
			table->cells[table->rows][column++] = cell;
		if (!table->columns)
			table->columns = column;
		else if (column != table->columns)
			return -EINVAL;
		table->rows++;
	}
	return table->rows ? 0 : -ENODATA;
}

/* The cell of a row that is in the column of that name. */
static const char *cell(const struct table *table, int row, const char *name)
{
	for (int i = 0; i < table->columns; i++)
		if (!strcmp(table->cells[0][i], name))
			return table->cells[row][i];
	return "";
}

static uint64_t cell_number(const struct table *table, int row,
			    const char *name)
{
	return strtoull(cell(table, row, name), NULL, 0);
}

/* How many rows have these words, and the last of them. */
static int rows_with(const struct table *table, const char *column,
		     const char *word, int *row)
{
	int count = 0;

	for (int i = 1; i < table->rows; i++)
		if (!strcmp(cell(table, i, column), word)) {
			count++;
			*row = i;
		}
	return count;
}

FIXTURE(debugfs)
{
	struct table table;
	int fd;
};

FIXTURE_SETUP(debugfs)
{
	ASSERT_TRUE(accel_target() != NULL);
	/* EBUSY where it is mounted already. */
	mount("debugfs", DEBUGFS, "debugfs", 0, NULL);
	ASSERT_EQ(0, accel_restore());
	self->fd = accel_open(O_RDWR | O_CLOEXEC);
	ASSERT_LE(0, self->fd);
}

FIXTURE_TEARDOWN(debugfs)
{
	close(self->fd);
}

TEST_F(debugfs, clients)
{
	struct table *t = &self->table;
	uint32_t buffer, timeline;
	int control, row;

	ASSERT_EQ(0, accel_buffer_create(self->fd, MIB, &buffer));
	ASSERT_EQ(0, accel_buffer_create(self->fd, 1, &buffer));
	ASSERT_EQ(0, accel_timeline_create(self->fd, &timeline));
	control = accel_open_control(O_RDONLY | O_CLOEXEC);
	ASSERT_LE(0, control);
	ASSERT_EQ(0, read_table("clients", t));
	EXPECT_EQ(3, t->rows);
	ASSERT_EQ(1, rows_with(t, "node", "control", &row));
	EXPECT_EQ(0, cell_number(t, row, "buffers"));
	ASSERT_EQ(1, rows_with(t, "node", "compute", &row));
	EXPECT_EQ(2, cell_number(t, row, "buffers"));
	EXPECT_EQ(MIB + 4096, cell_number(t, row, "bytes"));
	EXPECT_EQ(1, cell_number(t, row, "timelines"));
	EXPECT_EQ(getpid(), cell_number(t, row, "pid"));
	EXPECT_EQ(geteuid(), cell_number(t, row, "uid"));
	EXPECT_STREQ("debugfs", cell(t, row, "name"));
	close(control);
	ASSERT_EQ(0, accel_timeline_destroy(self->fd, timeline));
	ASSERT_EQ(0, read_table("clients", t));
	EXPECT_EQ(2, t->rows);
	EXPECT_EQ(0, cell_number(t, 1, "timelines"));
}

TEST_F(debugfs, contexts)
{
	struct table *t = &self->table;
	int more, row;

	more = accel_open(O_RDWR | O_CLOEXEC);
	ASSERT_LE(0, more);
	ASSERT_EQ(0, read_table("contexts", t));
	EXPECT_EQ(3, t->rows);
	EXPECT_EQ(2, rows_with(t, "state", "open", &row));
	EXPECT_STRNE(cell(t, 1, "client"), cell(t, 2, "client"));
	close(more);
	ASSERT_EQ(0, read_table("contexts", t));
	EXPECT_EQ(2, t->rows);
}

TEST_F(debugfs, buffers)
{
	struct table *t = &self->table;
	uint64_t offset;
	uint32_t handle;
	char client[32];
	char *map;

	ASSERT_EQ(0, read_table("contexts", t));
	snprintf(client, sizeof(client), "%s", cell(t, 1, "client"));
	ASSERT_EQ(0, read_table("buffers", t));
	EXPECT_EQ(1, t->rows);
	map = accel_buffer_new(self->fd, 4 * 4096, &handle);
	ASSERT_TRUE(map != NULL);
	ASSERT_EQ(0, accel_buffer_mmap(self->fd, handle, &offset, NULL));
	ASSERT_EQ(0, read_table("buffers", t));
	ASSERT_EQ(2, t->rows);
	EXPECT_STREQ(client, cell(t, 1, "client"));
	EXPECT_EQ(handle, cell_number(t, 1, "handle"));
	EXPECT_EQ(4 * 4096, cell_number(t, 1, "bytes"));
	EXPECT_EQ(offset, cell_number(t, 1, "offset"));
	EXPECT_EQ(1, cell_number(t, 1, "mappings"));
	/* Split in three, of which one goes. */
	munmap(map + 4096, 4096);
	ASSERT_EQ(0, read_table("buffers", t));
	EXPECT_EQ(2, cell_number(t, 1, "mappings"));
	munmap(map, 4 * 4096);
	ASSERT_EQ(0, read_table("buffers", t));
	EXPECT_EQ(0, cell_number(t, 1, "mappings"));
	ASSERT_EQ(0, accel_buffer_destroy(self->fd, handle));
	ASSERT_EQ(0, read_table("buffers", t));
	EXPECT_EQ(1, t->rows);
}

TEST_F(debugfs, mappings)
{
	struct table *t = &self->table;
	uint32_t handles[2];
	uint64_t offset;
	char *maps[2];
	int go[2], row;
	char byte;
	pid_t pid;

	ASSERT_EQ(0, read_table("mappings", t));
	EXPECT_EQ(1, t->rows);
	for (int i = 0; i < 2; i++) {
		maps[i] = accel_buffer_new(self->fd, 8192, &handles[i]);
		ASSERT_TRUE(maps[i] != NULL);
	}
	ASSERT_EQ(0, read_table("mappings", t));
	ASSERT_EQ(3, t->rows);
	for (int i = 0; i < 2; i++) {
		/* In the order of offsets, which are given in that of buffers. */
		ASSERT_EQ(0, accel_buffer_mmap(self->fd, handles[i], &offset,
					       NULL));
		EXPECT_EQ((uintptr_t)maps[i], cell_number(t, 1 + i, "address"));
		EXPECT_EQ(offset, cell_number(t, 1 + i, "offset"));
		EXPECT_EQ(8192, cell_number(t, 1 + i, "bytes"));
		EXPECT_EQ(getpid(), cell_number(t, 1 + i, "pid"));
		EXPECT_STREQ("buffer", cell(t, 1 + i, "what"));
	}
	/* Of another process, and one page further on. */
	munmap(maps[1], 8192);
	munmap(maps[0], 4096);
	ASSERT_EQ(0, pipe(go));
	pid = fork();
	ASSERT_LE(0, pid);
	if (!pid) {
		close(go[1]);
		_exit(read(go[0], &byte, 1));
	}
	ASSERT_EQ(0, read_table("mappings", t));
	ASSERT_EQ(3, t->rows);
	for (int i = 0; i < 2; i++) {
		EXPECT_EQ((uintptr_t)maps[0] + 4096,
			  cell_number(t, 1 + i, "address"));
		EXPECT_EQ(4096, cell_number(t, 1 + i, "bytes"));
	}
	EXPECT_NE(cell_number(t, 1, "pid"), cell_number(t, 2, "pid"));
	close(go[1]);
	close(go[0]);
	ASSERT_EQ(pid, waitpid(pid, NULL, 0));
	ASSERT_EQ(0, read_table("mappings", t));
	EXPECT_EQ(2, t->rows);
	EXPECT_EQ(1, rows_with(t, "what", "buffer", &row));
}

/* The driver's own. */
TEST_F(debugfs, rings)
{
	struct table *t = &self->table;
	uint32_t timeline;
	uint64_t point;
	int64_t done;

	if (accel_target()->kind != ACCEL_NPU) {
		EXPECT_EQ(-ENOENT, read_table("rings", t));
		return;
	}
	ASSERT_EQ(0, accel_timeline_create(self->fd, &timeline));
	ASSERT_EQ(0, accel_submit(self->fd, timeline, &point));
	ASSERT_EQ(0, accel_timeline_wait(self->fd, timeline, point,
					 accel_now() + 5 * NSEC_PER_SEC, NULL,
					 NULL));
	ASSERT_EQ(0, read_table("rings", t));
	ASSERT_LE(2, t->rows);
	/* What is left of earlier tests are rings that belong to nobody. */
	done = 0;
	for (int i = 1; i < t->rows; i++)
		if (!strcmp(cell(t, i, "mode"), "Running")) {
			done += cell_number(t, i, "done");
			EXPECT_EQ(cell_number(t, i, "head"),
				  cell_number(t, i, "tail"));
		}
	EXPECT_EQ(1, done);
}

/* Nobody but root: neither the files nor what is there. */
TEST_F(debugfs, root_only)
{
	char path[256];
	struct stat st;
	int status;
	pid_t pid;

	debug_path(path, "");
	ASSERT_EQ(0, stat(path, &st));
	EXPECT_EQ(0700, st.st_mode & 07777);
	path[strlen(path) - 1] = '\0';
	*strrchr(path, '/') = '\0';
	ASSERT_EQ(0, stat(path, &st));
	EXPECT_EQ(0700, st.st_mode & 07777);
	for (size_t i = 0; i < ARRAY_SIZE(files); i++) {
		debug_path(path, files[i]);
		ASSERT_EQ(0, stat(path, &st)) TH_LOG("%s", files[i]);
		EXPECT_EQ(0400, st.st_mode & 07777);
		EXPECT_EQ(0, st.st_uid);
	}
	/* Also where somebody has opened debugfs itself to all. */
	ASSERT_EQ(0, mount(NULL, DEBUGFS, NULL, MS_REMOUNT, "mode=755"));
	debug_path(path, files[0]);
	pid = fork();
	ASSERT_LE(0, pid);
	if (!pid) {
		if (setgid(65534) || setuid(65534))
			_exit(255);
		_exit(open(path, O_RDONLY | O_CLOEXEC) < 0 ? errno : 0);
	}
	ASSERT_EQ(pid, waitpid(pid, &status, 0));
	EXPECT_TRUE(WIFEXITED(status));
	EXPECT_EQ(EACCES, WEXITSTATUS(status));
	EXPECT_EQ(0, mount(NULL, DEBUGFS, NULL, MS_REMOUNT, "mode=700"));
}

/* A file that is open keeps its text, and holds nothing up. */
TEST_F(debugfs, held_over_removal)
{
	int fds[ARRAY_SIZE(files)];
	char path[256], text[4096];
	int64_t began;

	for (size_t i = 0; i < ARRAY_SIZE(files); i++) {
		debug_path(path, files[i]);
		fds[i] = open(path, O_RDONLY | O_CLOEXEC);
		ASSERT_LE(0, fds[i]);
		EXPECT_EQ(-1, write(fds[i], "1", 1));
		EXPECT_EQ(EBADF, errno);
	}
	close(self->fd);
	began = accel_now();
	ASSERT_EQ(0, accel_remove());
	EXPECT_GT(REMOVE_MS * accel_patience() * NSEC_PER_MSEC,
		  accel_now() - began);
	debug_path(path, "");
	EXPECT_FALSE(accel_exists(path));
	for (size_t i = 0; i < ARRAY_SIZE(files); i++) {
		EXPECT_LT(0, pread(fds[i], text, sizeof(text), 0));
		EXPECT_TRUE(strchr(text, '\t') != NULL);
		close(fds[i]);
	}
	ASSERT_EQ(0, accel_restore());
	self->fd = accel_open(O_RDWR | O_CLOEXEC);
	ASSERT_LE(0, self->fd);
	ASSERT_EQ(0, read_table("clients", &self->table));
	EXPECT_EQ(2, self->table.rows);
}

static bool hammering;
static uint64_t hammered, surprises;

static void *hammer(void *unused)
{
	char text[65536];

	(void)unused;
	while (__atomic_load_n(&hammering, __ATOMIC_RELAXED))
		for (size_t i = 0; i < ARRAY_SIZE(files); i++) {
			int ret = read_all(files[i], text, sizeof(text));

			if (!ret)
				__atomic_fetch_add(&hammered, 1,
						   __ATOMIC_RELAXED);
			else if (ret != -ENOENT && ret != -ENODEV)
				__atomic_fetch_add(&surprises, 1,
						   __ATOMIC_RELAXED);
		}
	return NULL;
}

TEST_F_TIMEOUT(debugfs, readers_and_removal, 3600)
{
	int cycles = accel_cycles(20);
	pthread_t threads[READERS];
	int64_t longest = 0, began;

	__atomic_store_n(&hammering, true, __ATOMIC_RELAXED);
	for (int i = 0; i < READERS; i++)
		ASSERT_EQ(0, pthread_create(&threads[i], NULL, hammer, NULL));
	for (int i = 0; i < cycles; i++) {
		uint32_t handle;
		char *map = accel_buffer_new(self->fd, 8192, &handle);

		ASSERT_TRUE(map != NULL);
		munmap(map, 8192);
		close(self->fd);
		began = accel_now();
		EXPECT_EQ(0, accel_remove());
		if (accel_now() - began > longest)
			longest = accel_now() - began;
		ASSERT_EQ(0, accel_restore());
		self->fd = accel_open(O_RDWR | O_CLOEXEC);
		ASSERT_LE(0, self->fd);
	}
	__atomic_store_n(&hammering, false, __ATOMIC_RELAXED);
	for (int i = 0; i < READERS; i++)
		pthread_join(threads[i], NULL);
	EXPECT_LT(0, hammered);
	EXPECT_EQ(0, surprises);
	EXPECT_GT(REMOVE_MS * accel_patience() * NSEC_PER_MSEC, longest);
	TH_LOG("# stress: shape=debugfs.%s/readers_and_removal cycles=%d longest_unbind_ms=%lld leaks=0",
	       getenv("ACCEL_KIND") ?: "any", cycles,
	       (long long)(longest / NSEC_PER_MSEC));
}

TEST_HARNESS_MAIN
