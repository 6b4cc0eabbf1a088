// The resources that kubelet reserves: the published formulas where they fit, and never more than the machine has.
import fc from 'fast-check';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { kubeReserved } from '../../agent/boot/phases/kubelet/reserved.ts';

const mebibyte = 1024 * 1024;
const gibibyte = 1024 * mebibyte;

test('CPU: the tiers, worked out by hand', () => {
  const known: [number, number][] = [
    [1, 60],
    [2, 70],
    [4, 80],
    [8, 90],
    [16, 110],
    [96, 310],
    [192, 550],
  ];
  for (const [vcpus, millis] of known)
    assert.is(kubeReserved({ maxPods: 110, memoryBytes: 8 * gibibyte, vcpus }).cpuMillis, millis, `${vcpus}`);
});

test('memory: 255 MiB and 11 MiB a pod where there is enough', () => {
  const reserve = (maxPods: number, memoryBytes: number) =>
    kubeReserved({ maxPods, memoryBytes, vcpus: 2 }).memoryMiB;
  assert.is(reserve(29, 8 * gibibyte), 574);
  assert.is(reserve(110, 8 * gibibyte), 1465);
  assert.is(reserve(250, 64 * gibibyte), 3005);
});

test('small machines with prefixes keep half of what is above the eviction threshold', () => {
  // t3.nano: 16 pods in about 440 MiB would reserve 431; t3.small: 96 pods in about 1,930 MiB, 1,311.
  assert.is(kubeReserved({ maxPods: 16, memoryBytes: 440 * mebibyte, vcpus: 2 }).memoryMiB, 170);
  assert.is(kubeReserved({ maxPods: 96, memoryBytes: 1930 * mebibyte, vcpus: 2 }).memoryMiB, 915);
});

test('property: something is always left for pods, and the formula is never exceeded', () => {
  fc.assert(
    fc.property(
      fc.integer({ min: 1, max: 1000 }),
      fc.integer({ min: 101 * mebibyte, max: 24_576 * gibibyte }),
      fc.integer({ min: 1, max: 1920 }),
      (maxPods, memoryBytes, vcpus) => {
        const { cpuMillis, memoryMiB } = kubeReserved({ maxPods, memoryBytes, vcpus });
        assert.ok(Number.isInteger(cpuMillis) && Number.isInteger(memoryMiB));
        assert.ok(memoryMiB >= 0 && memoryMiB <= 255 + 11 * maxPods);
        const left = memoryBytes / mebibyte - memoryMiB - 100;
        assert.ok(left > 0, `${left} MiB left`);
        assert.ok(left >= memoryMiB - 1, 'at least as much for pods as for kubelet');
        assert.ok(cpuMillis > 0 && cpuMillis <= vcpus * 60);
      },
    ),
  );
});

test('property: more pods never reserve less, more CPUs never less', () => {
  fc.assert(
    fc.property(fc.integer({ min: 1, max: 999 }), fc.integer({ min: 1, max: 500 }), (maxPods, vcpus) => {
      const memoryBytes = 16 * gibibyte;
      const here = kubeReserved({ maxPods, memoryBytes, vcpus });
      assert.ok(kubeReserved({ maxPods: maxPods + 1, memoryBytes, vcpus }).memoryMiB >= here.memoryMiB);
      assert.ok(kubeReserved({ maxPods, memoryBytes, vcpus: vcpus + 1 }).cpuMillis >= here.cpuMillis);
    }),
  );
});

test.run();
