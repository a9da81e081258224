"""A process that can be killed, told to stop, and stopped in its tracks: replicas and stores alike."""

from __future__ import annotations

import signal
import subprocess

END_SECONDS = 120


class Process:
    """What is done to a process; who starts it says how. It ends by its own id, and may be started again."""

    process: subprocess.Popen[str] | None

    def kill(self) -> None:
        """Kills it: nothing is handed over, and what it had not written is lost."""
        self.end(signal.SIGKILL)

    def end(self, how: signal.Signals = signal.SIGTERM) -> int:
        """Tells it to stop; returns its exit status, or 0 if it does not run."""
        if self.process is None:
            return 0
        assert self.process.stdout
        self.process.send_signal(how)
        status = self.process.wait(END_SECONDS)
        self.process.stdout.close()
        self.process = None
        return status

    def freeze(self) -> None:
        """Stops it in its tracks: connections stay open, and nothing is answered."""
        assert self.process
        self.process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Lets it go on."""
        assert self.process
        self.process.send_signal(signal.SIGCONT)
