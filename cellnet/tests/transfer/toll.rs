//! What a process has cost so far, as Linux counts it.

/// The most memory that a process ever held, in bytes.
pub(crate) fn peak(pid: u32) -> u64 {
    let kib = line(pid, "status", "VmHWM:");
    kib.trim_end_matches(" kB").parse::<u64>().expect("a number of kB") * 1024
}

/// Bytes that a process has written to files, and the little that it wrote to pipes.
pub(crate) fn written(pid: u32) -> u64 {
    line(pid, "io", "wchar:").parse().expect("a number")
}

fn line(pid: u32, file: &str, name: &str) -> String {
    let path = format!("/proc/{pid}/{file}");
    let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("cannot read {path}: {error}"));
    let value = text.lines().find_map(|line| line.strip_prefix(name)).expect("a line that Linux has");
    value.trim().to_owned()
}
