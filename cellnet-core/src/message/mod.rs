//! What cells say to one another: headers with a meaning, a payload, return codes.
