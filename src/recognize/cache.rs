//! Cache of face embeddings.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

/// Largest number of embeddings in a cache: about 30 s of eight subjects at 16 faces a second.
const CAPACITY: usize = 4096;

/// The newest embeddings of one `frame` encoder, by [`crate::clip::Face::id`]; the oldest is
/// evicted first.
#[derive(Debug, Default)]
pub(crate) struct FaceCache {
    embeddings: HashMap<u64, Arc<[f32]>>,
    /// Ids of the cached faces in the order of insertion.
    pub(super) order: VecDeque<u64>,
}

impl FaceCache {
    /// The cached embedding of the face with this id; `None` if it is not cached.
    pub(super) fn get(&self, id: u64) -> Option<&[f32]> {
        self.embeddings.get(&id).map(|embedding| &**embedding)
    }

    /// Adds the embedding of the face with this id, and evicts the oldest embedding if the cache is
    /// full.
    pub(super) fn insert(&mut self, id: u64, embedding: Arc<[f32]>) {
        if self.embeddings.insert(id, embedding).is_some() {
            return;
        }
        if self.order.len() == CAPACITY
            && let Some(oldest) = self.order.pop_front()
        {
            self.embeddings.remove(&oldest);
        }
        self.order.push_back(id);
    }
}
