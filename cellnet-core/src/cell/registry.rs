//! What is registered for a channel and a topic, with `*`.

use std::collections::HashMap;

use foldhash::fast::RandomState;

/// Stands for every channel or every topic.
pub const ANY: &str = "*";

/// Things by channel and topic.
#[derive(Debug)]
pub(crate) struct Registry<T> {
    channels: HashMap<String, HashMap<String, T, RandomState>, RandomState>,
}

impl<T> Default for Registry<T> {
    fn default() -> Self {
        Self { channels: HashMap::default() }
    }
}

impl<T> Registry<T> {
    /// What was registered most exactly: for the topic, for the channel, or for everything. A topic under `*` matches
    /// no other channel.
    pub(crate) fn find(&self, channel: &str, topic: &str) -> Option<&T> {
        let exact = self.on(channel, topic);
        exact.or_else(|| self.on(channel, ANY)).or_else(|| self.on(ANY, ANY))
    }

    /// Everything that matches, most exact first.
    pub(crate) fn matches(&self, channel: &str, topic: &str) -> impl Iterator<Item = &T> {
        let exact = self.on(channel, topic);
        let of_channel = if topic == ANY { None } else { self.on(channel, ANY) };
        let of_all = if channel == ANY { None } else { self.on(ANY, ANY) };
        [exact, of_channel, of_all].into_iter().flatten()
    }

    fn on(&self, channel: &str, topic: &str) -> Option<&T> {
        self.channels.get(channel)?.get(topic)
    }

    /// Registers, and gives what was there.
    pub(crate) fn insert(&mut self, channel: &str, topic: &str, value: T) -> Option<T> {
        self.channels.entry(channel.into()).or_default().insert(topic.into(), value)
    }

    /// Removes and gives what was there.
    pub(crate) fn remove(&mut self, channel: &str, topic: &str) -> Option<T> {
        let topics = self.channels.get_mut(channel)?;
        let removed = topics.remove(topic);
        if topics.is_empty() {
            self.channels.remove(channel);
        }
        removed
    }

    /// What is registered for exactly these two, made if need be.
    pub(crate) fn entry(&mut self, channel: &str, topic: &str) -> &mut T
    where
        T: Default,
    {
        self.channels.entry(channel.into()).or_default().entry(topic.into()).or_default()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.channels.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The observed look-ups of the reference.
    #[test]
    fn the_most_exact_entry_is_found() {
        let mut all = Registry::default();
        for (channel, topic, name) in
            [("c", "t", "exact"), ("c", "*", "chan"), ("*", "*", "all"), ("*", "t", "never")]
        {
            all.insert(channel, topic, name);
        }
        for (channel, topic, found) in
            [("c", "t", "exact"), ("c", "x", "chan"), ("d", "t", "all"), ("", "", "all"), ("c", "", "chan")]
        {
            assert_eq!(all.find(channel, topic), Some(&found), "{channel}:{topic}");
        }
        let mut star_topic = Registry::default();
        star_topic.insert("*", "t", "star_t");
        assert_eq!(star_topic.find("d", "t"), None);
    }
}
