"""The demo: real files stored, the process killed, everything proved byte for byte, and measured."""
