/** MT19937 of Matsumoto and Nishimura, the 32-bit generator that C++ calls `std::mt19937`: the same numbers everywhere. */
export class MersenneTwister {
  readonly #state = new Uint32Array(624);
  #index = 624;

  constructor(seed: number) {
    this.#state[0] = seed;
    for (let i = 1; i < 624; i++) {
      const previous = this.#state[i - 1] as number;
      this.#state[i] = Math.imul(1_812_433_253, previous ^ (previous >>> 30)) + i;
    }
  }

  /** 0 to 2^32 - 1. */
  next(): number {
    if (this.#index === 624) this.#refill();
    let y = this.#state[this.#index++] as number;
    y ^= y >>> 11;
    y ^= (y << 7) & 0x9d2c_5680;
    y ^= (y << 15) & 0xefc6_0000;
    y ^= y >>> 18;
    return y >>> 0;
  }

  #refill(): void {
    const state = this.#state;
    for (let i = 0; i < 624; i++) {
      const y = ((state[i] as number) & 0x8000_0000) | ((state[(i + 1) % 624] as number) & 0x7fff_ffff);
      state[i] = (state[(i + 397) % 624] as number) ^ (y >>> 1) ^ ((y & 1) * 0x9908_b0df);
    }
    this.#index = 0;
  }
}
