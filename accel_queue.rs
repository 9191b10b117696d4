// SPDX-License-Identifier: GPL-2.0

//! A queue of work for one engine, fair between those who share it.
//!
//! Each open file has a [`Lane`], in which its work keeps its order; the engine's driver takes the
//! next piece from one lane after the other. A piece that is larger than a turn goes back to the
//! front of its lane. When a file is closed its lane goes, and the work in it is dropped: jobs that
//! the work holds end as `ECANCELED`.
//!
//! Taking and putting back allocate nothing, so that both may be done from an interrupt's thread.

use kernel::{
    new_mutex,
    prelude::*,
    sync::{
        Arc,
        Mutex, //
    }, //
};

/// Names a lane, for ever.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct LaneId(u64);

struct LaneState<W> {
    id: LaneId,
    limit: usize,
    /// One piece was taken and not yet done with.
    taken: bool,
    /// With capacity for a piece that is put back.
    work: KVec<W>,
}

struct Lanes<W> {
    next_id: u64,
    /// Whose turn it is.
    turn: usize,
    lanes: KVec<LaneState<W>>,
}

impl<W> Lanes<W> {
    fn find(&mut self, id: LaneId) -> Option<&mut LaneState<W>> {
        self.lanes.iter_mut().find(|lane| lane.id == id)
    }
}

#[pin_data]
struct Shared<W> {
    #[pin]
    lanes: Mutex<Lanes<W>>,
}

/// A queue with one lane for each file.
pub struct FairQueue<W> {
    shared: Arc<Shared<W>>,
}

impl<W> FairQueue<W> {
    /// A queue without lanes.
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    pub fn new() -> Result<Self> {
        let lanes = Lanes {
            next_id: 0,
            turn: 0,
            lanes: KVec::new(),
        };
        let shared = Arc::pin_init(
            pin_init!(Shared {
                lanes <- new_mutex!(lanes, "accel_queue"),
            }),
            GFP_KERNEL,
        )?;

        Ok(Self { shared })
    }

    /// Adds a lane for at most `limit` pieces of work.
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    pub fn lane(&self, limit: usize) -> Result<Lane<W>> {
        let mut lanes = self.shared.lanes.lock();
        let id = LaneId(lanes.next_id);

        lanes.next_id += 1;
        lanes.lanes.push(
            LaneState {
                id,
                limit,
                taken: false,
                work: KVec::new(),
            },
            GFP_KERNEL_ACCOUNT,
        )?;
        Ok(Lane {
            shared: self.shared.clone(),
            id,
        })
    }

    /// Takes a piece from the lane whose turn it is. [`Self::put_back`] or [`Self::done`] must
    /// follow before that lane has another turn.
    pub fn take(&self) -> Option<(LaneId, W)> {
        let mut lanes = self.shared.lanes.lock();
        let count = lanes.lanes.len();

        for _ in 0..count {
            let turn = lanes.turn % count;
            lanes.turn = turn + 1;
            if let Some(lane) = lanes.lanes.get_mut(turn) {
                if lane.taken {
                    continue;
                }
                if let Ok(work) = lane.work.remove(0) {
                    lane.taken = true;
                    return Some((lane.id, work));
                }
            }
        }
        None
    }

    /// Puts what was taken back to the front of its lane; drops it if the lane is gone.
    pub fn put_back(&self, id: LaneId, work: W) {
        let mut lanes = self.shared.lanes.lock();
        let refused = match lanes.find(id) {
            Some(lane) => {
                lane.taken = false;
                lane.work.insert_within_capacity(0, work).err().map(drop)
            }
            None => {
                drop(lanes);
                drop(work);
                None
            }
        };

        debug_assert!(refused.is_none());
    }

    /// What was taken from the lane is done with.
    pub fn done(&self, id: LaneId) {
        if let Some(lane) = self.shared.lanes.lock().find(id) {
            lane.taken = false;
        }
    }
}

/// The place of one file in a [`FairQueue`]. Dropping it drops the work that is in it.
pub struct Lane<W> {
    shared: Arc<Shared<W>>,
    id: LaneId,
}

impl<W> Lane<W> {
    /// Adds work to the end. `make` is called once it is certain that there is room.
    ///
    /// # Errors
    ///
    /// `EAGAIN` when as many pieces as the lane's limit are in it or taken from it; `ENOMEM`; what
    /// `make` fails with.
    pub fn push<T>(&self, make: impl FnOnce() -> Result<(W, T)>) -> Result<T> {
        let mut lanes = self.shared.lanes.lock();
        let lane = lanes.find(self.id).ok_or(ENODEV)?;
        let taken = usize::from(lane.taken);

        if lane.work.len() + taken >= lane.limit {
            return Err(EAGAIN);
        }
        // For this piece and one that is put back.
        lane.work.reserve(1 + taken, GFP_KERNEL_ACCOUNT)?;
        let (work, told) = make()?;
        lane.work.push(work, GFP_KERNEL_ACCOUNT)?;
        Ok(told)
    }
}

impl<W> Drop for Lane<W> {
    fn drop(&mut self) {
        let mut lanes = self.shared.lanes.lock();
        let at = lanes.lanes.iter().position(|lane| lane.id == self.id);
        let lane = at.and_then(|at| lanes.lanes.remove(at).ok());

        // Work may take locks of its own as it is dropped.
        drop(lanes);
        drop(lane);
    }
}
