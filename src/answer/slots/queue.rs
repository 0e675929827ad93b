//! Who is next: each scope in turn, and within a scope whoever came first. So a client that sends
//! a hundred requests does not keep another waiting for all of them.

use std::collections::VecDeque;

type Scope = Option<Vec<u8>>;

#[derive(Debug)]
pub(super) struct Queue<T> {
    /// The scope whose turn it is stands first; none is empty.
    lanes: VecDeque<(Scope, VecDeque<T>)>,
}

impl<T> Default for Queue<T> {
    fn default() -> Self {
        Self { lanes: VecDeque::new() }
    }
}

impl<T> Queue<T> {
    pub(super) fn push(&mut self, scope: Scope, item: T) {
        match self.lanes.iter_mut().find(|(lane, _)| *lane == scope) {
            Some((_, items)) => items.push_back(item),
            None => self.lanes.push_back((scope, VecDeque::from([item]))),
        }
    }

    /// Whoever is next of those that are `ready`: one that is not keeps nobody else waiting.
    pub(super) fn pop_if(&mut self, mut ready: impl FnMut(&T) -> bool) -> Option<T> {
        let mut lanes = self.lanes.iter().enumerate();
        let (lane, at) =
            lanes.find_map(|(lane, (_, items))| Some((lane, items.iter().position(&mut ready)?)))?;
        let (scope, mut items) = self.lanes.remove(lane)?;
        let item = items.remove(at);
        if !items.is_empty() {
            self.lanes.push_back((scope, items));
        }
        item
    }

    pub(super) fn len(&self) -> usize {
        self.lanes.iter().map(|(_, items)| items.len()).sum()
    }

    /// Whoever is next, and then the next of each lane after that.
    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = &mut T> {
        self.lanes.iter_mut().flat_map(|(_, items)| items.iter_mut())
    }

    /// Takes out what `matches`.
    pub(super) fn remove(&mut self, mut matches: impl FnMut(&T) -> bool) -> Option<T> {
        for i in 0..self.lanes.len() {
            let items = &mut self.lanes[i].1;
            if let Some(at) = items.iter().position(&mut matches) {
                let item = items.remove(at);
                if items.is_empty() {
                    self.lanes.remove(i);
                }
                return item;
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn turns() {
        let scope = |name: &str| Some(name.as_bytes().to_vec());
        let mut queue = Queue::default();
        for (name, item) in [("a", 1), ("a", 2), ("a", 3), ("b", 4), ("b", 5), ("c", 6)] {
            queue.push(scope(name), item);
        }
        queue.push(None, 7);
        assert_eq!(queue.len(), 7);
        assert_eq!(queue.remove(|&item| item == 6), Some(6));
        assert_eq!(queue.remove(|&item| item == 6), None);
        assert_eq!(queue.pop_if(|&item| item > 9), None);
        assert_eq!(queue.pop_if(|&item| item == 4), Some(4));
        assert_eq!(queue.pop_if(|&item| item == 3), Some(3), "past those before it in its scope");
        queue.push(scope("a"), 3);
        queue.push(scope("b"), 4);
        let order: Vec<i32> = std::iter::from_fn(|| queue.pop_if(|_| true)).collect();
        assert_eq!(order, [7, 5, 1, 4, 2, 3]);
        assert_eq!(queue.len(), 0);
    }
}
