// Loaded into Azurite's process by `node --require`. Its standard input is a pipe whose other end only the starter
// holds, so the pipe ends when the starter ends, however it ends, and no emulator is left behind.
process.stdin.on("end", () => process.exit(0)).resume();
