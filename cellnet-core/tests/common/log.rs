//! What is logged while a test runs on one thread.

use std::{
    io::{self, Write},
    sync::{Arc, Mutex, Once},
};

use tracing::subscriber::DefaultGuard;

/// Collects what this thread logs, from `info` on, until it is dropped.
pub(crate) struct Log {
    text: Text,
    _guard: DefaultGuard,
}

impl Log {
    pub(crate) fn begin() -> Self {
        // Threads of other tests listen as well. Without, the first of them to pass a place that logs would have it
        // remembered as one that nobody listens to, for this thread too.
        static LISTENED: Once = Once::new();
        LISTENED.call_once(|| {
            tracing::subscriber::set_global_default(tracing_subscriber::registry())
                .expect("nothing else sets the default of a test program");
        });
        let text = Text::default();
        let writer = text.clone();
        let subscriber = tracing_subscriber::fmt().with_ansi(false).with_writer(move || writer.clone());
        Self { text, _guard: tracing::subscriber::set_default(subscriber.finish()) }
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8(self.text.0.lock().unwrap().clone()).unwrap()
    }

    pub(crate) fn count(&self, part: &str) -> usize {
        self.text().matches(part).count()
    }
}

#[derive(Clone, Default)]
struct Text(Arc<Mutex<Vec<u8>>>);

impl Write for Text {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
