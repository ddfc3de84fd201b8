"""What the worker processes do, one class a contestant; `accelnn.bench.worker` imports them."""
