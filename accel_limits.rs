// SPDX-License-Identifier: GPL-2.0

//! Limits: how much of a thing one file, one user and one device may have at a time.
//!
//! ```text
//!  Charge ──► Watch, FileAccount ──► DeviceAccount: what the device has, what each of its users
//! ```
//!
//! Who makes something charges the account of the file that it is made for, and with it those of
//! user and device, and gets a [`Charge`]. That lies beside what it stands for and gives back when
//! it is dropped, so that nothing can be forgotten and nothing be given back twice, however the
//! thing ends. Accounts refer to no device and no file: what lives longer than its file, as a job
//! may, is counted for as long as it is there.
//!
//! A user is an effective user id, as the kernel has it; there is an account of a user for as long
//! as something is counted in it.
//!
//! All three are charged under one lock, the device's, so that who is refused does not have others
//! refused for a moment. It is a leaf, held for a few instructions.
//!
//! # Which numbers
//!
//! They are there against programs that leak and users who take all, so they lie far above what a
//! program needs. A file has as many handles as the interface has always had, and as many mappings
//! as the kernel lets one process have (`vm.max_map_count`). A user has as much as four such
//! files, a device as much as four such users: no user can take all of it. Where a device takes few
//! contexts a user has three quarters of them.
//!
//! Whoever looks after a device is not to be locked out by those who use it: files of the control
//! node, and events in them, are limited for each user only.

use crate::{
    bindings::{
        errno::EDQUOT,
        uapi, //
    },
    event,
    file::Node,
    job::Watch, //
};
use kernel::{
    new_spinlock,
    prelude::*,
    sync::{
        atomic::{
            Atomic,
            Relaxed, //
        },
        Arc,
        SpinLock, //
    }, //
};

/// What there are limits on, `enum accel_limit`.
#[derive(Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub(crate) enum Limit {
    /// Open files of both nodes.
    Files = uapi::ACCEL_LIMIT_FILES,
    /// Open compute files.
    Contexts = uapi::ACCEL_LIMIT_CONTEXTS,
    /// Buffers that have a handle.
    Buffers = uapi::ACCEL_LIMIT_BUFFERS,
    /// Areas of memory that show something of a file.
    Mappings = uapi::ACCEL_LIMIT_MAPPINGS,
    /// Timelines that have a handle.
    Timelines = uapi::ACCEL_LIMIT_TIMELINES,
    /// Jobs that have not ended.
    Jobs = uapi::ACCEL_LIMIT_JOBS,
    /// Events that were not read.
    Events = uapi::ACCEL_LIMIT_EVENTS,
}

impl Limit {
    /// All, in the order of their numbers.
    pub(crate) const ALL: [Self; 7] = [
        Self::Files,
        Self::Contexts,
        Self::Buffers,
        Self::Mappings,
        Self::Timelines,
        Self::Jobs,
        Self::Events,
    ];

    /// What it is called.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Files => "files",
            Self::Contexts => "contexts",
            Self::Buffers => "buffers",
            Self::Mappings => "mappings",
            Self::Timelines => "timelines",
            Self::Jobs => "jobs",
            Self::Events => "events",
        }
    }
}

/// Whose limit it is.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Scope {
    File,
    User,
    Device,
}

impl Scope {
    /// All.
    pub(crate) const ALL: [Self; 3] = [Self::File, Self::User, Self::Device];

    /// What it is called.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::File => "file",
            Self::User => "user",
            Self::Device => "device",
        }
    }
}

impl Node {
    /// What an open file of this node is.
    #[inline]
    fn counts_as(self) -> &'static [Limit] {
        match self {
            Self::Compute => &[Limit::Files, Limit::Contexts],
            Self::Control => &[Limit::Files],
        }
    }
}

/// Something for each limit.
type Each<T> = [T; Limit::ALL.len()];

/// What there is for `limit`.
#[inline(always)]
fn of<T>(each: &Each<T>, limit: Limit) -> &T {
    // A limit's number is less than the length, which the compiler sees.
    &each[limit as usize]
}

/// As [`of`], to be changed.
#[inline(always)]
fn of_mut<T>(each: &mut Each<T>, limit: Limit) -> &mut T {
    &mut each[limit as usize]
}

/// Most in one file.
const fn file_max(limit: Limit) -> u32 {
    match limit {
        Limit::Files | Limit::Contexts => 1,
        Limit::Buffers | Limit::Timelines => uapi::ACCEL_HANDLES_MAX,
        Limit::Mappings | Limit::Jobs => 1 << 16,
        Limit::Events => uapi::ACCEL_EVENTS_MAX,
    }
}

/// Most of one user on one device, until root says otherwise; fewer contexts if it takes few. The end
/// of a device takes a moment for each area that is mapped: of those a user has no more than a file.
const USER_MAX: Each<u32> = [
    1 << 12,
    1 << 12,
    1 << 18,
    1 << 16,
    1 << 18,
    1 << 18,
    1 << 16,
];

/// Most on one device, until root says otherwise; fewer contexts if it takes no more.
const DEVICE_MAX: Each<u32> = [
    1 << 14,
    1 << 14,
    1 << 20,
    1 << 18,
    1 << 20,
    1 << 20,
    1 << 18,
];

/// What one user has on a device: something.
#[derive(Clone, Copy)]
struct User {
    id: u32,
    used: Each<u32>,
    /// The sum of that.
    all: u64,
}

impl User {
    fn new(id: u32) -> Self {
        Self {
            id,
            used: [0; Limit::ALL.len()],
            all: 0,
        }
    }
}

/// What there may be and what there is, but for the files.
struct Books {
    max: Each<u32>,
    user_max: Each<u32>,
    used: Each<u32>,
    /// Ascending by id. Room is made without the lock.
    users: KVVec<User>,
}

/// Why something cannot be counted.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Refused {
    /// It is the limit of what it says.
    At(Limit, Scope),
    /// There is no room for another user.
    NoRoom,
}

impl From<Refused> for Error {
    fn from(refused: Refused) -> Self {
        match refused {
            Refused::At(Limit::Jobs, _) => EAGAIN,
            Refused::At(Limit::Contexts, Scope::Device) => EBUSY,
            Refused::At(_, Scope::User) => EDQUOT.into(),
            Refused::At(_, Scope::File | Scope::Device) => ENOSPC,
            Refused::NoRoom => ENOMEM,
        }
    }
}

impl Books {
    fn find(&self, id: u32) -> Result<usize, usize> {
        self.users.binary_search_by_key(&id, |user| user.id)
    }

    /// Counts one more of each of `limits` for a file of `node` of user `id`, or none. For one of the
    /// control node the device's limits do not hold.
    fn take(&mut self, id: u32, limits: &[Limit], node: Node) -> Result<(), Refused> {
        let found = self.find(id);
        let known = found.ok().and_then(|at| self.users.get(at));

        for &limit in limits {
            let used = known.map_or(0, |user| *of(&user.used, limit));

            if used >= *of(&self.user_max, limit) {
                return Err(Refused::At(limit, Scope::User));
            }
            if node == Node::Compute && *of(&self.used, limit) >= *of(&self.max, limit) {
                return Err(Refused::At(limit, Scope::Device));
            }
        }
        if let Err(at) = found {
            self.users
                .insert_within_capacity(at, User::new(id))
                .map_err(|_| Refused::NoRoom)?;
        }
        let (Ok(at) | Err(at)) = found;
        self.add(at, limits);
        Ok(())
    }

    /// Counts one more of each of `limits` for the user at `at`, whatever there may be.
    fn add(&mut self, at: usize, limits: &[Limit]) {
        if let Some(user) = self.users.get_mut(at) {
            for &limit in limits {
                let more = |count: &mut u32| *count = count.wrapping_add(1);

                more(of_mut(&mut user.used, limit));
                more(of_mut(&mut self.used, limit));
                user.all = user.all.wrapping_add(1);
            }
        }
    }

    /// Undoes [`Self::take`].
    fn give(&mut self, id: u32, limits: &[Limit]) {
        let Ok(at) = self.find(id) else {
            return;
        };
        let Some(user) = self.users.get_mut(at) else {
            return;
        };

        for &limit in limits {
            let less = |count: &mut u32| *count = count.wrapping_sub(1);

            less(of_mut(&mut user.used, limit));
            less(of_mut(&mut self.used, limit));
            user.all = user.all.wrapping_sub(1);
        }
        if user.all == 0 {
            let _ = self.users.remove(at);
        }
    }
}

/// What all files on one device have.
#[pin_data]
pub(crate) struct DeviceAccount {
    /// Contexts that the device takes, whatever root says.
    contexts: u32,
    #[pin]
    books: SpinLock<Books>,
}

impl DeviceAccount {
    /// For a device that takes `contexts` at a time; 0 for as many as come.
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    pub(crate) fn new(contexts: u32) -> Result<Arc<Self>> {
        let mut max = DEVICE_MAX;
        let mut user_max = USER_MAX;
        let contexts = match contexts {
            0 => u32::MAX,
            contexts => {
                *of_mut(&mut max, Limit::Contexts) = contexts;
                // Of a single one there is no share: who comes second is told that it is taken.
                if contexts > 1 {
                    let share = contexts.saturating_sub(contexts.div_ceil(4));
                    let most = of_mut(&mut user_max, Limit::Contexts);

                    *most = share.min(*most);
                }
                contexts
            }
        };
        let books = Books {
            max,
            user_max,
            used: [0; Limit::ALL.len()],
            users: KVVec::new(),
        };

        Arc::pin_init(
            pin_init!(Self {
                contexts,
                books <- new_spinlock!(books, "accel_books"),
            }),
            GFP_KERNEL,
        )
    }

    /// Most of a thing; [`u32::MAX`] is no limit.
    pub(crate) fn max(&self, scope: Scope, limit: Limit) -> u32 {
        match scope {
            Scope::File => file_max(limit),
            Scope::User => *of(&self.books.lock().user_max, limit),
            Scope::Device => *of(&self.books.lock().max, limit),
        }
    }

    /// Has there be at most `max` from now on. Nobody loses what is more.
    ///
    /// # Errors
    ///
    /// `EINVAL` for more contexts than the device takes; `EPERM` for files, whose limits are fixed.
    pub(crate) fn set_max(&self, scope: Scope, limit: Limit, max: u32) -> Result {
        let books = &mut *self.books.lock();

        match scope {
            Scope::File => return Err(EPERM),
            Scope::User => *of_mut(&mut books.user_max, limit) = max,
            Scope::Device if limit == Limit::Contexts && max > self.contexts => {
                return Err(EINVAL);
            }
            Scope::Device => *of_mut(&mut books.max, limit) = max,
        }
        Ok(())
    }

    /// How much all files on the device have.
    pub(crate) fn used(&self, limit: Limit) -> u32 {
        *of(&self.books.lock().used, limit)
    }

    /// Makes room for one more user.
    fn make_room(&self) -> Result {
        let wanted = self.books.lock().users.len().saturating_mul(2).max(4);
        let mut room = KVVec::with_capacity(wanted, GFP_KERNEL)?;
        let mut books = self.books.lock();

        // If somebody else has made more there is nothing to do.
        if books.users.capacity() < room.capacity() && books.users.len() < room.capacity() {
            for user in books.users.iter() {
                // There is room.
                let _ = room.push_within_capacity(*user);
            }
            core::mem::swap(&mut books.users, &mut room);
        }
        drop(books);
        drop(room);
        Ok(())
    }
}

/// What one open file has; a part of what its jobs keep, as they may outlive it.
pub(crate) struct FileAccount {
    device: Arc<DeviceAccount>,
    node: Node,
    /// Who has opened it.
    user: u32,
    /// Changed with the device's lock held.
    used: Each<Atomic<u32>>,
}

impl FileAccount {
    /// For a file of `node` of `device` that user `id` opens.
    #[inline(always)]
    pub(crate) fn new(device: &Arc<DeviceAccount>, node: Node, id: u32) -> impl Init<Self> {
        let device = device.clone();

        init!(Self {
            device,
            node,
            user: id,
            // As `Opened` counts it.
            used: [
                Atomic::new(1),
                Atomic::new((*node == Node::Compute).into()),
                Atomic::new(0),
                Atomic::new(0),
                Atomic::new(0),
                Atomic::new(0),
                Atomic::new(0),
            ],
        })
    }

    /// How much the file has.
    pub(crate) fn used(&self, limit: Limit) -> u32 {
        of(&self.used, limit).load(Relaxed)
    }

    fn take(&self, limit: Limit) -> Result<(), Refused> {
        let books = &mut *self.device.books.lock();
        let used = of(&self.used, limit);
        let now = used.load(Relaxed);

        if now >= file_max(limit) {
            return Err(Refused::At(limit, Scope::File));
        }
        books.take(self.user, &[limit], self.node)?;
        used.store(now + 1, Relaxed);
        Ok(())
    }

    /// Counts one more where nobody can be refused. The file has one already.
    fn add(&self, limit: Limit) {
        let books = &mut *self.device.books.lock();

        if let Ok(at) = books.find(self.user) {
            books.add(at, &[limit]);
            of(&self.used, limit).fetch_add(1, Relaxed);
        }
    }

    /// Whether there may be one more for the file.
    fn has_room(&self, limit: Limit) -> bool {
        let info = self.info(limit);

        info.file_used < info.file_max
            && info.user_used < info.user_max
            && info.device_used < info.device_max
    }

    fn give(&self, limit: Limit) {
        let books = &mut *self.device.books.lock();

        books.give(self.user, &[limit]);
        of(&self.used, limit).fetch_sub(1, Relaxed);
    }

    /// What there may be of a thing, and what there is.
    pub(crate) fn info(&self, limit: Limit) -> uapi::accel_info_limit {
        let books = self.device.books.lock();
        let user = books
            .find(self.user)
            .ok()
            .and_then(|at| books.users.get(at));

        uapi::accel_info_limit {
            limit: limit as u32,
            flags: 0,
            file_max: file_max(limit),
            user_max: *of(&books.user_max, limit),
            device_max: *of(&books.max, limit),
            file_used: self.used(limit),
            user_used: user.map_or(0, |user| *of(&user.used, limit)),
            device_used: *of(&books.used, limit),
        }
    }
}

// Not by a `Charge`: events lie in what that refers to.
impl event::Count for FileAccount {
    fn more(&self) -> bool {
        self.take(Limit::Events).is_ok()
    }

    fn less(&self) {
        self.give(Limit::Events);
    }
}

/// One thing that is counted, until this is dropped, and those that the kernel makes of it.
pub(crate) struct Charge {
    file: Arc<Watch>,
    limit: Limit,
}

impl Charge {
    /// Counts one more for a file. Does not sleep.
    ///
    /// # Errors
    ///
    /// At the limit of the file `ENOSPC`, of the user `EDQUOT`, of the device `ENOSPC`; for jobs
    /// always `EAGAIN`. `ENOMEM` after the file was closed.
    pub(crate) fn new(file: &Arc<Watch>, limit: Limit) -> Result<Self> {
        file.account().take(limit)?;
        Ok(Self {
            file: file.clone(),
            limit,
        })
    }

    /// Counts one more, even where that is more than there may be.
    pub(crate) fn add(&self) {
        self.file.account().add(self.limit);
    }

    /// Undoes [`Self::add`].
    pub(crate) fn remove(&self) {
        self.file.account().give(self.limit);
    }

    /// Whether one more would not be more than there may be.
    pub(crate) fn has_room(&self) -> bool {
        self.file.account().has_room(self.limit)
    }
}

impl Drop for Charge {
    fn drop(&mut self) {
        self.file.account().give(self.limit);
    }
}

/// A file that is counted as open, until this is dropped.
pub(crate) struct Opened {
    file: Arc<Watch>,
    node: Node,
}

impl Opened {
    /// Counts a file of `node`, which is also a context if it computes.
    ///
    /// # Errors
    ///
    /// At the limit of the user `EDQUOT`, at that of the device `ENOSPC`, but for contexts `EBUSY`;
    /// `ENOMEM`.
    pub(crate) fn new(file: Arc<Watch>, node: Node) -> Result<Self> {
        let FileAccount { device, user, .. } = file.account();

        loop {
            let limits = node.counts_as();
            let taken = device.books.lock().take(*user, limits, node);

            match taken {
                Ok(()) => return Ok(Self { file, node }),
                // Whoever comes meanwhile may take the room.
                Err(Refused::NoRoom) => device.make_room()?,
                Err(refused) => return Err(refused.into()),
            }
        }
    }

    /// What its jobs keep of it.
    #[inline]
    pub(crate) fn watch(&self) -> &Arc<Watch> {
        &self.file
    }

    #[inline]
    pub(crate) fn node(&self) -> Node {
        self.node
    }
}

impl Drop for Opened {
    fn drop(&mut self) {
        let FileAccount { device, user, .. } = self.file.account();

        device.books.lock().give(*user, self.node.counts_as());
    }
}

#[kunit_tests(accel_limits)]
mod limits_tests {
    use super::*;

    const ONE: &[Limit] = &[Limit::Buffers];
    const BOTH: &[Limit] = &[Limit::Files, Limit::Contexts];

    /// Books for `room` users, with these limits on everything.
    fn books(room: usize, user_max: u32, max: u32) -> Result<Books> {
        Ok(Books {
            max: [max; Limit::ALL.len()],
            user_max: [user_max; Limit::ALL.len()],
            used: [0; Limit::ALL.len()],
            users: KVVec::with_capacity(room, GFP_KERNEL)?,
        })
    }

    fn used(books: &Books, id: u32, limit: Limit) -> Option<u32> {
        let at = books.find(id).ok()?;

        books.users.get(at).map(|user| *of(&user.used, limit))
    }

    #[test]
    fn numbers_are_indices() {
        for (index, limit) in Limit::ALL.iter().enumerate() {
            assert_eq!(index, *limit as usize);
        }
    }

    #[test]
    fn user_at_the_limit_and_one_more() -> Result {
        let mut books = books(4, 3, 100)?;

        for _ in 0..3 {
            assert!(books.take(7, ONE, Node::Compute).is_ok());
        }
        let refused = Refused::At(Limit::Buffers, Scope::User);
        assert!(books.take(7, ONE, Node::Compute) == Err(refused));
        assert!(books.take(8, ONE, Node::Compute).is_ok());
        assert_eq!(used(&books, 7, Limit::Buffers), Some(3));
        assert_eq!(*of(&books.used, Limit::Buffers), 4);
        books.give(7, ONE);
        assert!(books.take(7, ONE, Node::Compute).is_ok());
        assert!(books.take(7, ONE, Node::Compute) == Err(refused));
        Ok(())
    }

    #[test]
    fn device_at_the_limit_and_one_more() -> Result {
        let mut books = books(8, 100, 3)?;

        for id in 0..3 {
            assert!(books.take(id, ONE, Node::Compute).is_ok());
        }
        assert!(
            books.take(5, ONE, Node::Compute) == Err(Refused::At(Limit::Buffers, Scope::Device))
        );
        // Who was refused is not known, and has nothing.
        assert_eq!(used(&books, 5, Limit::Buffers), None);
        books.give(1, ONE);
        assert!(books.take(5, ONE, Node::Compute).is_ok());
        Ok(())
    }

    #[test]
    fn control_is_not_locked_out() -> Result {
        let mut books = books(4, 3, 2)?;

        for id in 0..2 {
            assert!(books.take(id, ONE, Node::Compute).is_ok());
        }
        assert!(
            books.take(2, ONE, Node::Compute) == Err(Refused::At(Limit::Buffers, Scope::Device))
        );
        for _ in 0..3 {
            assert!(books.take(2, ONE, Node::Control).is_ok());
        }
        let refused = Refused::At(Limit::Buffers, Scope::User);
        assert!(books.take(2, ONE, Node::Control) == Err(refused));
        Ok(())
    }

    #[test]
    fn users_leave_some_contexts() -> Result {
        for (contexts, share) in [(1, 1 << 12), (2, 1), (3, 2), (64, 48), (1 << 14, 1 << 12)] {
            let device = DeviceAccount::new(contexts)?;

            assert_eq!(device.max(Scope::User, Limit::Contexts), share);
            assert_eq!(device.max(Scope::Device, Limit::Contexts), contexts);
        }
        Ok(())
    }

    // No driver takes as many jobs as a file may have: here it is seen.
    #[test]
    fn file_at_the_limit_and_one_more() -> Result {
        let device = DeviceAccount::new(0)?;
        let file = KBox::init(FileAccount::new(&device, Node::Compute, 7), GFP_KERNEL)?;

        device.make_room()?;
        assert!(device.books.lock().take(7, BOTH, Node::Compute).is_ok());
        for limit in Limit::ALL {
            let refused = Refused::At(limit, Scope::File);

            for _ in file.used(limit)..file_max(limit) {
                assert!(file.take(limit).is_ok());
            }
            assert!(file.take(limit) == Err(refused));
            assert_eq!(file.used(limit), file_max(limit));
            assert_eq!(device.used(limit), file_max(limit));
            file.give(limit);
            assert!(file.take(limit).is_ok());
            assert!(file.take(limit) == Err(refused));
        }
        Ok(())
    }

    #[test]
    fn all_or_none() -> Result {
        let mut books = books(4, 100, 100)?;

        *of_mut(&mut books.max, Limit::Contexts) = 1;
        assert!(books.take(1, BOTH, Node::Compute).is_ok());
        assert!(
            books.take(1, BOTH, Node::Compute) == Err(Refused::At(Limit::Contexts, Scope::Device))
        );
        assert_eq!(*of(&books.used, Limit::Files), 1);
        assert_eq!(used(&books, 1, Limit::Files), Some(1));
        books.give(1, BOTH);
        assert_eq!(*of(&books.used, Limit::Files), 0);
        Ok(())
    }

    #[test]
    fn users_go_with_their_last_use() -> Result {
        let mut books = books(3, 100, 100)?;

        for id in [5, 1, 3] {
            assert!(books.take(id, ONE, Node::Compute).is_ok());
            assert!(books.take(id, BOTH, Node::Compute).is_ok());
        }
        assert!(books.users.is_sorted_by_key(|user| user.id));
        // There is room for three.
        assert!(books.take(2, ONE, Node::Compute) == Err(Refused::NoRoom));
        assert_eq!(*of(&books.used, Limit::Buffers), 3);
        books.give(3, ONE);
        assert!(books.take(2, ONE, Node::Compute) == Err(Refused::NoRoom));
        books.give(3, BOTH);
        assert_eq!(used(&books, 3, Limit::Files), None);
        assert!(books.take(2, ONE, Node::Compute).is_ok());
        assert!(books.users.is_sorted_by_key(|user| user.id));
        // To give back what nobody has changes nothing.
        books.give(9, ONE);
        assert_eq!(*of(&books.used, Limit::Buffers), 3);
        Ok(())
    }

    #[test]
    fn errors() {
        let errno = |limit, scope| Error::from(Refused::At(limit, scope)).to_errno();

        assert_eq!(
            errno(Limit::Files, Scope::User),
            Error::from(EDQUOT).to_errno()
        );
        assert_eq!(errno(Limit::Files, Scope::Device), ENOSPC.to_errno());
        assert_eq!(errno(Limit::Contexts, Scope::Device), EBUSY.to_errno());
        assert_eq!(
            errno(Limit::Contexts, Scope::User),
            Error::from(EDQUOT).to_errno()
        );
        assert_eq!(errno(Limit::Buffers, Scope::File), ENOSPC.to_errno());
        for scope in Scope::ALL {
            assert_eq!(errno(Limit::Jobs, scope), EAGAIN.to_errno());
        }
    }
}
